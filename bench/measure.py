#!/usr/bin/env python3
"""Measures this build on this machine and writes bench/results/build/NAME.json.

  bench/measure.py relay accept accept_in_memory half latency idle deep   (all of them when none is named)

Each figure is the median of ROUNDS runs, with the least and the most. Source, sink and server share
the machine's CPUs. MESSAGES, ROUNDS, HALF, DEEP and IDLE (environment) change the amounts; RESULTS is another place for
the results.
"""
import os
import pathlib
import resource
import socket
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import harness

RESULTS = pathlib.Path(os.environ.get("RESULTS") or ROOT / "bench" / "results" / "build")
ROUNDS = harness.amount("ROUNDS", 3)
MESSAGES = harness.amount("MESSAGES", 50_000)
HALF = harness.amount("HALF", 10_000)
DEEP = harness.amount("DEEP", 1_000_000)
IDLE = harness.amount("IDLE", 10_000)
PATIENT = ("--retry", "1h", "--max-age", "5d")


def relay():
    """10 KB, 100 sessions, 20 messages per connection, durable, out to one sink."""
    return harness.through(MESSAGES)


def accept():
    """As relay, but the next hop refuses connections: all mail stays."""
    return harness.through(MESSAGES, stays=True)


def accept_in_memory():
    """As accept, with memtables that hold it all: nothing is written but the log."""
    return harness.through(MESSAGES, stays=True, config='[spool]\nmemtables_max = "3GiB"\n')


def half():
    """Accept alone at HALF messages a second, open loop: half of what it can take."""
    return harness.through(HALF * 5, stays=True, rate=HALF)


def latency():
    """100 messages a second, open loop: an easy load."""
    return harness.through(1000, sessions=10, rate=100)


def idle():
    """IDLE sessions that say nothing beside 1,000 that send; the p99 of 250 without and with them."""
    figures = {}
    for name, count in (("alone", 0), ("beside_idle", IDLE)):
        sink = harness.Sink(f"127.0.0.2:{harness.free_port('127.0.0.2')}", MESSAGES)
        server = harness.Server(sink.address)
        held = []
        if count:
            before = server.rss_mib()
            held = hold(server, count)
            figures["octets_per_idle_session"] = (server.rss_mib() - before) * 1024 * 1024 / count
        sent = harness.source(server.address, "--messages", MESSAGES, "--sessions", 1000, "--per-connection", 20, "--size", "10k")
        figures[f"accept_p50_ms_{name}"] = sent["dot_to_250"]["p50_ms"]
        figures[f"accept_p99_ms_{name}"] = sent["dot_to_250"]["p99_ms"]
        figures[f"failed_{name}"] = sent["failed"] + sent["unanswered"]
        sink.result()
        for one in held:
            one.close()
        server.stop()
    return figures


def hold(server, count):
    """Sessions that have said EHLO, from several loopback addresses so that no client bound is hit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, port = server.address.split(":")
    held = []
    for number in range(count):
        one = socket.create_connection((host, int(port)), 10, (f"127.0.0.{10 + number // 2000}", 0))
        one.recv(512)
        one.sendall(b"EHLO idle.test\r\n")
        one.recv(1024)
        held.append(one)
    return held


def metric(server, name):
    with urllib.request.urlopen(f"http://{server.http}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
    return None


def own_octets(server):
    """Memory but for what the store holds, which has a bound of its own and does not grow with the queue."""
    return server.rss_mib() * 1024 * 1024 - metric(server, "posthaste_spool_memory_bytes")


def delivered(server):
    return metric(server, 'posthaste_recipients_total{outcome="delivered"}')


def deep():
    """DEEP messages of 1 KB to a site that refuses connections, then a crash, a restart, a delivery."""
    hop = f"127.0.0.2:{harness.free_port('127.0.0.2')}"
    server = harness.Server(hop, *PATIENT)
    empty, own_empty = server.rss_mib(), own_octets(server)
    sent = harness.source(server.address, "--messages", DEEP, "--sessions", 200, "--per-connection", 1000, "--size", "1k")
    time.sleep(3)
    figures = {
        "accepted_per_s": sent["messages_per_second"], "queued": metric(server, "posthaste_queue_entries"),
        "rss_mib": server.rss_mib(), "rss_empty_mib": empty,
        "octets_per_message": (own_octets(server) - own_empty) / DEEP,
    }
    server.stop(hard=True, keep=True)
    again = harness.Server(hop, *PATIENT, directory=server.dir)
    figures["restart_s"] = again.ready_s
    figures["queued_after_restart"] = metric(again, "posthaste_queue_entries")
    figures["rss_after_restart_mib"] = again.rss_mib()
    figures["octets_per_message_after_restart"] = (own_octets(again) - own_empty) / DEEP
    again.stop(keep=True)
    sink = harness.Sink(hop, DEEP)
    last = harness.Server(hop, *PATIENT, directory=server.dir)
    while not delivered(last):
        time.sleep(0.02)
    figures["restart_to_first_delivery_s"] = time.monotonic() - last.began
    # To the last delivery within ten seconds: a small queue is empty before.
    began, before = time.monotonic(), delivered(last)
    ended, after = began, before
    while time.monotonic() - began < 10:
        time.sleep(0.05)
        if (count := delivered(last)) > after:
            ended, after = time.monotonic(), count
    figures["drain_per_s"] = (after - before) / (ended - began) if ended > began else 0
    figures["rss_draining_mib"] = last.rss_mib()
    last.stop(hard=True)
    sink.end()
    return figures


KNOWN = {one.__name__: one for one in (relay, accept, accept_in_memory, half, latency, idle, deep)}


def main():
    harness.exit_on_signals()
    wanted = sys.argv[1:] or list(KNOWN)
    if any(name not in KNOWN for name in wanted):
        sys.exit(__doc__)
    for name in wanted:
        one, about = KNOWN[name], {**harness.machine(), **harness.moment()}
        figures = harness.spread([one() for _ in range(1 if name == "deep" else ROUNDS)])
        harness.write(RESULTS / f"{name}.json", {"what": one.__doc__, "machine": about, "figures": figures})
        print(f"{name}: {one.__doc__}")
        harness.show(figures)


if __name__ == "__main__":
    try:
        main()
    except harness.Failed as failed:
        sys.exit(f"measure: {failed}")

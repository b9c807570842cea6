#!/usr/bin/env python3
"""Sets `posthaste-load` beside Postfix's smtp-source and smtp-sink and writes bench/results/loadtest.json, and loadtest.html, which is the
report of one run of the source.

  make bench-load            builds first
  loadtest/compare.py        needs a release build, and the package postfix for the two programs

10 KiB messages over 100 kept sessions; generator and sink each pinned to a CPU of its own. In each round every pair runs once, in
turn. Messages/s/core is what the process's own CPU time comes to, so that a faster peer does not flatter it. `provider` is a simulated
provider that limits nothing, in the place of the sink. `simulate` is a provider without sockets: a month at one message a second, in seconds
of a clock on the wall. MESSAGES, ROUNDS and DAYS (environment) change the amounts; RESULTS is another place for the results. Exit code 1
where a program of ours does not out-run Postfix's.
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import harness

RESULTS = pathlib.Path(os.environ.get("RESULTS") or ROOT / "bench" / "results")
MESSAGES, ROUNDS = harness.amount("MESSAGES", 20_000), harness.amount("ROUNDS", 5)
SIZE, SESSIONS = 10_240, 100
DAYS = harness.amount("DAYS", 30)
# The sinks' address: the second of its block.
HOST, BLOCK = "127.0.0.2", "127.0.0.0/30"
# Of its two addresses the first is nobody's.
UNLIMITED = """name = "unlimited"
host = "mx.sink.test"
domains = ["sink.test"]
[[mx]]
name = "mx.sink.test"
addresses = 2
refused = 1
"""


def our_source(port, *more):
    return [harness.LOAD, "source", "--to", f"{HOST}:{port}", "--messages", MESSAGES, "--sessions", SESSIONS, "--size", SIZE,
            "--per-connection", 0, "--threads", 1, "--json", *more]


def their_source(port):
    return ["smtp-source", "-d", "-s", SESSIONS, "-m", MESSAGES, "-l", SIZE, "-f", "a@load.test", "-t", "b@sink.test",
            f"{HOST}:{port}"]


def our_sink(port):
    return [harness.LOAD, "sink", "--listen", f"{HOST}:{port}", "--threads", 1, "--json"]


def our_provider(port):
    names = harness.free_port("127.0.0.1")
    return [harness.LOAD, "provider", "serve", PROFILE.name, "--dns", f"127.0.0.1:{names}", "--addresses", BLOCK, "--port", port, "--json"]


def their_sink(port):
    # It will not run as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return ["smtp-sink", *user, f"{HOST}:{port}", 1000]


PROFILE = tempfile.NamedTemporaryFile("w", suffix=".toml")
PROFILE.write(UNLIMITED)
PROFILE.flush()
# Name: generator, sink, and whose CPU the figures are.
PAIRS = {
    "source": (our_source, our_sink, "source"),
    "source_no_pipelining": (lambda port: our_source(port, "--no-pipelining"), our_sink, "source"),
    "smtp_source": (their_source, our_sink, "source"),
    "sink": (our_source, our_sink, "sink"),
    "provider": (our_source, our_provider, "sink"),
    "smtp_sink": (our_source, their_sink, "sink"),
}


def start(command, cpu):
    def pin():
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[cpu]})
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pin)


def finish(process):
    """CPU seconds of a child, when it has ended."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def listening(sink, port):
    """A sink that takes connections."""
    server = start(sink(port), -1)
    for _ in range(100):
        try:
            socket.create_connection((HOST, port)).close()
            break
        except OSError:
            time.sleep(0.05)
    return server


def simulate():
    """A month of a provider and of a sender that slows down where it is told to, as far as one core goes."""
    command = [harness.LOAD, "provider", "simulate", "outlook", "--days", str(DAYS), "--rate", "1/s", "--model", "aimd", "--json"]
    made = json.loads(subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout)
    took = made["seconds_real"]
    return {"seconds": took, "messages_per_s": made["offered"] / took, "attempts_per_s": made["attempts"] / took}


def report(path):
    """One run that ramps up, as the page that it makes of itself."""
    port = harness.free_port(HOST)
    server = listening(our_sink, port)
    client = start(our_source(port, "--arrivals", "ramp:100..5000/s:10s", "--duration", "10s", "--html", path), 0)
    finish(client)
    os.kill(server.pid, signal.SIGINT)
    finish(server)
    if client.returncode != 0:
        sys.exit(f"compare: the run for {path} ended with {client.returncode}")


def measure(generator, sink, whose):
    port = harness.free_port(HOST)
    server = listening(sink, port)
    began = time.monotonic()
    client = start(generator(port), 0)
    cpu = {"source": finish(client)}
    seconds = time.monotonic() - began
    os.kill(server.pid, signal.SIGINT)
    cpu["sink"] = finish(server)
    if client.returncode != 0:
        sys.exit(f"compare: {generator(port)[0]} ended with {client.returncode}")
    if server.returncode not in (0, -signal.SIGINT):
        sys.exit(f"compare: {sink(port)[0]} ended with {server.returncode}")
    return {"messages_per_s": MESSAGES / seconds, "messages_per_s_core": MESSAGES / cpu[whose], "cpu_us_per_message": cpu[whose] / MESSAGES * 1e6}


def held_against(figures):
    """A table, ours beside theirs; whether ours are the faster ones on one core."""
    print(f"\n{'':<10}{'messages/s/core':>20}{'Postfix':>16}{'times':>8}{'CPU µs/message':>20}{'Postfix':>16}")
    is_faster = True
    for ours, theirs in (("source", "smtp_source"), ("source_no_pipelining", "smtp_source"), ("sink", "smtp_sink"),
                         ("provider", "smtp_sink")):
        rate, other = (figures[f"{name}_messages_per_s_core"]["median"] for name in (ours, theirs))
        cost, dear = (figures[f"{name}_cpu_us_per_message"]["median"] for name in (ours, theirs))
        is_faster &= rate > other
        print(f"{ours.replace('_no_', ', no '):<22}{rate:>8,.0f}{other:>16,.0f}{rate / other:>8.1f}{cost:>20.1f}{dear:>16.1f}")
    return is_faster


def main():
    os.environ["PATH"] += ":/usr/sbin"
    for tool in ("smtp-source", "smtp-sink", harness.LOAD):
        if not shutil.which(tool):
            sys.exit(f"compare: {tool} is missing")
    about, found = {**harness.machine(), **harness.moment()}, {name: [] for name in PAIRS}
    for _ in range(ROUNDS):
        for name, pair in PAIRS.items():
            found[name].append(measure(*pair))
        found.setdefault("simulate", []).append(simulate())
    figures = {f"{name}_{key}": figure for name, rounds in found.items() for key, figure in harness.spread(rounds).items()}
    what = f"{MESSAGES} messages of {SIZE} octets over {SESSIONS} kept sessions, medians of {ROUNDS} rounds in turn; smtp_ are Postfix's; " \
           f"simulate: outlook, {DAYS} days at 1 message/s."
    harness.write(RESULTS / "loadtest.json", {"what": what, "machine": about, "figures": figures})
    report(RESULTS / "loadtest.html")
    harness.show(figures)
    return 0 if held_against(figures) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Varies one knob at a time and writes tuning/results/KNOB.json.

  tuning/measure.py shards memtables durability
  (all of them when none is named; --list prints the knobs and their values)

The load is that of bench/measure.py: 10 KB messages, source, server and sink on this machine, and for
memtables and flush a next hop that refuses connections, so that all mail stays. The values of a knob take turns,
round by round, so that what else the machine does falls on all alike. ROUNDS (3) and MESSAGES (50000)
change the amounts, RESULTS is another place for the results. The table that is printed is the one
tuning/README.md shows.
"""
import functools
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import harness

RESULTS = pathlib.Path(os.environ.get("RESULTS") or ROOT / "tuning" / "results")
MESSAGES, ROUNDS = harness.amount("MESSAGES", 50_000), harness.amount("ROUNDS", 3)
CPUS = len(os.sched_getaffinity(0))
# What is kept, and in which order it stands in the table.
KEYS = ("accepted_per_s", "accept_p50_ms", "accept_p99_ms", "cpu_us_per_message", "rss_peak_mib", "relayed_per_s",
        "end_to_end_p99_ms", "lost")

run = functools.partial(harness.through, MESSAGES)


def by_sources(count):
    """Out by so many addresses, four connections from each, to a site that takes 20 ms for each message, as a distant one does."""
    addresses = ", ".join(f'"127.0.1.{n}"' for n in range(1, count + 1))
    text = f'[delivery]\nsources = [{addresses}]\nconnections_max = 4\n'
    # Four connections carry 200 messages a second.
    return harness.through(min(MESSAGES, 2000 * count), config=text, sink_flags=("--delay", "dot=fixed:20ms"))



# What is varied: the knob as it is written, and a run for each value.
KNOBS = {
    "shards": ("node.shards", {
        str(n): lambda n=n: run("--shards", n) for n in sorted({1, 2, CPUS // 2, CPUS}) if 1 <= n <= CPUS}),
    "memtables": ("spool.memtables_max, all mail stays", {
        size: lambda size=size: run(config=f'[spool]\nmemtables_max = "{size}"\n', stays=True)
        for size in ("64MiB", "256MiB", "1GiB", "3GiB")}),
    "durability": ("spool.durability", {
        mode: lambda mode=mode: run("--durability", mode) for mode in ("commit", "relaxed")}),
    "sources": ("sources, 4 connections of each to a site that takes 20 ms a message", {
        str(n): lambda n=n: by_sources(n) for n in (1, 4, 16)}),
    "flush": ("spool.flush_per_second_max, all mail stays", {
        size: lambda size=size: run(config=f'[spool]\nflush_per_second_max = "{size}"\n', stays=True)
        for size in ("50MiB", "200MiB", "2GiB")}),
    "unsynced": ("delivery.unsynced_max", {
        str(n): lambda n=n: run(config=f"[delivery]\nunsynced_max = {n}\n") for n in (8, 128, 10_000)}),
    # 20 connections, each with a message now and then.
    "idle": ("delivery.idle, 100 messages a second", {
        time: lambda time=time: harness.through(min(MESSAGES, 1000), config=f'[delivery]\nidle = "{time}"\n', rate=100, sessions=20)
        for time in ("0s", "5s")}),
    "bodies": ("spool.bodies_max", {
        # No message may be larger than all bodies together.
        size: lambda size=size: run(config=f'[smtp]\nmessage_octets_max = "1MiB"\n[spool]\nbodies_max = "{size}"\n')
        for size in ("16MiB", "64MiB", "256MiB")}),
    # A commit takes what is there: how many messages share one sync follows from the sessions.
    "sessions": ("inbound sessions, which make the commit batch", {
        str(n): lambda n=n: run(sessions=n) for n in (1, 10, 100, 1000)}),
    "per_connection": ("delivery.messages_per_connection_max", {
        str(n): lambda n=n: run(config=f"[delivery]\nmessages_per_connection_max = {n}\n") for n in (1, 20, 1000)}),
    "lane_connections": ("delivery.connections_max", {
        str(n): lambda n=n: run(config=f"[delivery]\nconnections_max = {n}\n") for n in (1, 4, 32, 128)}),
    "pipelining": ("delivery.pipelining", {
        word: lambda word=word: run(config=f"[delivery]\npipelining = {word}\n") for word in ("false", "true")}),
}


def measure(name):
    what, runs = KNOBS[name]
    about = {**harness.machine(), **harness.moment()}
    rounds = {value: [] for value in runs}
    for _ in range(ROUNDS):
        for value, one in runs.items():
            figures = one()
            rounds[value].append({key: figures[key] for key in KEYS if key in figures})
    values = {value: harness.spread(ran) for value, ran in rounds.items()}
    harness.write(RESULTS / f"{name}.json", {"knob": what, "messages": MESSAGES, "rounds": ROUNDS, "machine": about, "values": values})
    keys = list(next(iter(values.values())))
    print(f"\n{what} (load before: {about['load_before']:.2f})\n")
    print("| value | " + " | ".join(keys) + " |")
    print("|---" * (len(keys) + 1) + "|")
    for value, of in values.items():
        print(f"| {value} | " + " | ".join(harness.cell(of[key]) for key in keys) + " |")


def main():
    harness.exit_on_signals()
    if sys.argv[1:] == ["--list"]:
        for name, (what, runs) in KNOBS.items():
            print(f"{name:<18} {what}: {', '.join(runs)}")
        return
    wanted = sys.argv[1:] or list(KNOBS)
    if any(name not in KNOBS for name in wanted):
        sys.exit(__doc__)
    for name in wanted:
        measure(name)


if __name__ == "__main__":
    try:
        main()
    except harness.Failed as failed:
        sys.exit(f"tuning: {failed}")

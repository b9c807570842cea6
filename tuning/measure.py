#!/usr/bin/env python3
"""Varies one knob at a time and writes tuning/results/KNOB.json.

  tuning/measure.py shards memtables durability bodies sessions per_connection lane_connections pipelining
  (all of them when none is named; --list prints the knobs and their values)

The load is that of bench/measure.py: 10 KB messages, source, server and sink on this machine, and for
memtables a next hop that refuses connections, so that all mail stays. The values of a knob take turns,
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

# What is varied: the knob as it is written, and a run for each value.
KNOBS = {
    "shards": ("node.shards", {
        str(n): lambda n=n: run("--shards", n) for n in sorted({1, 2, CPUS // 2, CPUS}) if 1 <= n <= CPUS}),
    "memtables": ("spool.memtables_max, all mail stays", {
        size: lambda size=size: run(config=f'[spool]\nmemtables_max = "{size}"\n', stays=True)
        for size in ("64MiB", "256MiB", "1GiB", "3GiB")}),
    "durability": ("spool.durability", {
        mode: lambda mode=mode: run("--durability", mode) for mode in ("commit", "relaxed")}),
    "bodies": ("spool.bodies_max", {
        size: lambda size=size: run(config=f'[spool]\nbodies_max = "{size}"\n') for size in ("1MiB", "16MiB", "256MiB")}),
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

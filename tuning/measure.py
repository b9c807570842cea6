#!/usr/bin/env python3
"""Varies one knob at a time and writes tuning/results/KNOB.json.

  tuning/measure.py shards memtables durability sessions per_connection lane_connections
  (all of them when none is named; --list prints the knobs and their values)

The load is that of bench/measure.py: 10 KB messages, source, server and sink on this machine, and for
memtables a next hop that refuses connections, so that all mail stays. The values of a knob take turns,
round by round, so that what else the machine does falls on all alike. ROUNDS (3) and MESSAGES (50000)
change the amounts. The table that is printed is the one tuning/README.md shows.
"""
import json, os, pathlib, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARGUMENTS = sys.argv[1:]


def bench():
    """bench/measure.py without its last line, which runs it."""
    text = (ROOT / "bench" / "measure.py").read_text()
    head, tail = text.rsplit("\nmain()", 1)
    if tail.strip():
        sys.exit("tuning: bench/measure.py does not end with main()")
    names = {"__file__": str(ROOT / "bench" / "measure.py"), "__name__": "measure"}
    exec(compile(head, "bench/measure.py", "exec"), names)
    return names


BENCH = bench()
MESSAGES, ROUNDS = BENCH["MESSAGES"], BENCH["ROUNDS"]
Server, Sink, source, machine = (BENCH[name] for name in ("Server", "Sink", "source", "machine"))
CPUS = len(os.sched_getaffinity(0))


def run(flags=(), config="", stays=False, sessions=100, per_connection=20):
    """One run. Figures that do not apply are left out."""
    sink = None if stays else Sink(MESSAGES)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(config)
        file.flush()
        server = Server(sink.address if sink else "127.0.0.2:1", "--config", file.name, *flags)
        before = server.cpu_s()
        sent = source(server, "--messages", MESSAGES, "--sessions", sessions, "--per-connection", per_connection,
                      "--size", "10k")
        got = sink.result() if sink else None
        cpu, rss = server.cpu_s() - before, server.rss_mib(peak=True)
        server.stop()
    figures = {"accepted_per_s": sent["messages_per_second"], "accept_p50_ms": sent["dot_to_250"]["p50_ms"],
               "accept_p99_ms": sent["dot_to_250"]["p99_ms"], "cpu_us_per_message": cpu / MESSAGES * 1e6,
               "rss_peak_mib": rss}
    if got:
        figures |= {"relayed_per_s": got["messages_per_second"], "end_to_end_p99_ms": got["latency"]["p99_ms"],
                    "lost": got["lost"]}
    return figures


# What is varied: the knob as it is written, and a run for each value.
KNOBS = {
    "shards": ("node.shards", {
        str(n): lambda n=n: run(flags=["--shards", str(n)]) for n in sorted({1, 2, CPUS // 2, CPUS}) if 1 <= n <= CPUS}),
    "memtables": ("spool.memtables_max, all mail stays", {
        size: lambda size=size: run(config=f'[spool]\nmemtables_max = "{size}"\n', stays=True)
        for size in ("64MiB", "256MiB", "1GiB", "3GiB")}),
    "durability": ("spool.durability", {
        mode: lambda mode=mode: run(flags=["--durability", mode]) for mode in ("commit", "relaxed")}),
    # A commit takes what is there: how many messages share one sync follows from the sessions.
    "sessions": ("inbound sessions, which make the commit batch", {
        str(n): lambda n=n: run(sessions=n) for n in (1, 10, 100, 1000)}),
    "per_connection": ("delivery.messages_per_connection_max", {
        str(n): lambda n=n: run(config=f"[delivery]\nmessages_per_connection_max = {n}\n") for n in (1, 20, 1000)}),
    "lane_connections": ("delivery.connections_max", {
        str(n): lambda n=n: run(config=f"[delivery]\nconnections_max = {n}\n") for n in (1, 4, 32, 128)}),
}


def spread(values):
    values = sorted(values)
    middle = len(values) // 2
    median = values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
    return {"median": median, "min": values[0], "max": values[-1]}


def measure(name):
    what, runs = KNOBS[name]
    about = machine()
    rounds = {value: [] for value in runs}
    for _ in range(ROUNDS):
        for value, one in runs.items():
            rounds[value].append(one())
    figures = {value: {key: spread([one[key] for one in ran]) for key in ran[0]} for value, ran in rounds.items()}
    results = ROOT / "tuning" / "results"
    results.mkdir(exist_ok=True)
    report = {"knob": what, "messages": MESSAGES, "rounds": ROUNDS, "machine": about, "values": figures}
    (results / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    keys = list(next(iter(figures.values())))
    print(f"\n{what} (load before: {about['load_before']:.2f})\n")
    print("| value | " + " | ".join(keys) + " |")
    print("|---" * (len(keys) + 1) + "|")
    for value, of in figures.items():
        cells = [f"{of[key]['median']:,.1f} ({of[key]['min']:,.1f} to {of[key]['max']:,.1f})" for key in keys]
        print(f"| {value} | " + " | ".join(cells) + " |")


def main():
    if ARGUMENTS == ["--list"]:
        for name, (what, runs) in KNOBS.items():
            print(f"{name:<18} {what}: {', '.join(runs)}")
        return
    wanted = ARGUMENTS or list(KNOBS)
    if any(name not in KNOBS for name in wanted):
        sys.exit(__doc__)
    for name in wanted:
        measure(name)


main()

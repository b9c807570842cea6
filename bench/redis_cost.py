#!/usr/bin/env python3
"""What Redis costs a node: relay without it, with it and nothing shared, and with a shared rate that is never reached.

  bench/redis_cost.py        needs a release build, and the package redis-server; writes bench/results/redis.json

10 KB messages, 100 sessions, as bench/measure.py relay. In each round every kind of node runs once, each round begins with
another one, so that what else the machine does falls on all alike. The drop is told by rounds: the rate with Redis over that
without it in the same round, its median, and the spread between the quartiles; CPU per message likewise. MESSAGES (40000) and
ROUNDS (9) change the amounts; RESULTS is another place for the result.
"""
import atexit
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import harness

RESULTS = pathlib.Path(os.environ.get("RESULTS") or ROOT / "bench" / "results")
MESSAGES, ROUNDS = harness.amount("MESSAGES", 40_000), harness.amount("ROUNDS", 9)
READY_S_MAX = 10
# Whose ratio to a node without Redis is told, by key of a run's figures.
COMPARED = ("relayed_per_s", "cpu_us_per_message")
# What unlimited traffic may lose.
DROP_MAX = 0.05


def redis():
    """A Redis of this run's own that keeps nothing; ends with the script."""
    port, directory = harness.free_port(), tempfile.mkdtemp(prefix="posthaste-redis.")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(process.terminate)
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return f"redis://127.0.0.1:{port}"
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("redis: redis-server did not start")
            time.sleep(0.05)


def kinds(url, rules):
    """The configuration of each kind of node."""
    with_redis = f'[redis]\nurls = ["{url}"]\n'
    return {"without": "", "unlimited": with_redis, "shared_rate": f'{with_redis}[shaping]\nfiles = ["{rules}"]\n'}


def compare(rounds):
    """By kind and figure: what it came to beside the node without Redis, round by round."""
    told = {}
    for kind in (kind for kind in rounds if kind != "without"):
        for key in COMPARED:
            ratios = sorted(one[key] / base[key] for one, base in zip(rounds[kind], rounds["without"]))
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            told[f"{kind}_{key}_over_without"] = {"median": middle, "quartiles": [low, high], "min": ratios[0], "max": ratios[-1]}
    return told


def main():
    harness.exit_on_signals()
    if shutil.which("redis-server") is None:
        sys.exit("redis: redis-server is missing (apt-get install redis-server)")
    about = {**harness.machine(), **harness.moment()}
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as rules:
        rules.write('["default"]\nmax_message_rate = "1000000/s"\n')
        rules.flush()
        nodes = kinds(redis(), rules.name)
        rounds = {kind: [] for kind in nodes}
        for number in range(ROUNDS):
            turn = list(nodes)[number % len(nodes):] + list(nodes)[:number % len(nodes)]
            for kind in turn:
                rounds[kind].append(harness.through(MESSAGES, config=nodes[kind]))
                print(f"{number + 1}/{ROUNDS} {kind:<12}{rounds[kind][-1]['relayed_per_s']:>10,.0f}/s", flush=True)
    figures = {f"{kind}_{key}": figure for kind, ran in rounds.items() for key, figure in harness.spread(ran).items()}
    ratios = compare(rounds)
    what = f"Relay of {MESSAGES} messages of 10 KB without Redis, with it, and with a shared rate that is never reached; {ROUNDS} rounds in turn."
    harness.write(RESULTS / "redis.json", {"what": what, "machine": about, "figures": figures, "ratios": ratios, "runs": rounds})
    harness.show({key: figure for key, figure in figures.items() if key.endswith(COMPARED)})
    for name, ratio in ratios.items():
        low, high = ratio["quartiles"]
        print(f"  {name:<48} {ratio['median']:.3f} (quartiles {low:.3f} to {high:.3f})")
    rate = ratios["unlimited_relayed_per_s_over_without"]
    print(f"unlimited traffic with Redis on: {(rate['median'] - 1) * 100:+.1f} %, at most -{DROP_MAX * 100:.0f} % is the target")


if __name__ == "__main__":
    try:
        main()
    except harness.Failed as failed:
        sys.exit(f"redis: {failed}")

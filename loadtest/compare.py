#!/usr/bin/env python3
"""Sets `posthaste-load` beside Postfix's smtp-source and smtp-sink and writes bench/results/loadtest.json.

  loadtest/compare.py        needs a release build, and the package postfix for the two programs

10 KiB messages over 100 kept sessions; generator and sink each pinned to a CPU of its own. In each round every pair runs once, in
turn. Messages/s/core is what the process's own CPU time comes to, so that a faster peer does not flatter it. MESSAGES and ROUNDS
(environment) change the amounts.
"""
import json, os, pathlib, platform, shutil, signal, socket, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "posthaste-load"
MESSAGES = int(os.environ.get("MESSAGES", 20_000))
ROUNDS = int(os.environ.get("ROUNDS", 5))
SIZE, SESSIONS = 10_240, 100


def our_source(port, *more):
    return [BIN, "source", "--to", f"127.0.0.2:{port}", "--messages", MESSAGES, "--sessions", SESSIONS, "--size", SIZE,
            "--per-connection", 0, "--threads", 1, "--json", *more]


def their_source(port):
    return ["smtp-source", "-d", "-s", SESSIONS, "-m", MESSAGES, "-l", SIZE, "-f", "a@load.test", "-t", "b@sink.test",
            f"127.0.0.2:{port}"]


def our_sink(port):
    return [BIN, "sink", "--listen", f"127.0.0.2:{port}", "--threads", 1, "--json"]


def their_sink(port):
    # It will not run as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return ["smtp-sink", *user, f"127.0.0.2:{port}", 1000]


# Name: generator, sink, and whose CPU the figures are.
PAIRS = {
    "source": (our_source, our_sink, "source"),
    "source_no_pipelining": (lambda port: our_source(port, "--no-pipelining"), our_sink, "source"),
    "smtp_source": (their_source, our_sink, "source"),
    "sink": (our_source, our_sink, "sink"),
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


def measure(generator, sink, whose):
    with socket.create_server(("127.0.0.2", 0)) as held:
        port = held.getsockname()[1]
    server = start(sink(port), -1)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.2", port)).close()
            break
        except OSError:
            time.sleep(0.05)
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


def machine():
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(), "commit": commit,
            "load_before": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main():
    os.environ["PATH"] += ":/usr/sbin"
    for tool in ("smtp-source", "smtp-sink", BIN):
        if not shutil.which(tool):
            sys.exit(f"compare: {tool} is missing")
    about, found = machine(), {name: [] for name in PAIRS}
    for _ in range(ROUNDS):
        for name, pair in PAIRS.items():
            found[name].append(measure(*pair))
    figures = {}
    for name, rounds in found.items():
        for key in rounds[0]:
            values = sorted(one[key] for one in rounds)
            figures[f"{name}_{key}"] = {"median": statistics.median(values), "min": values[0], "max": values[-1]}
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    what = f"{MESSAGES} messages of {SIZE} octets over {SESSIONS} kept sessions, medians of {ROUNDS} rounds in turn; smtp_ are Postfix's."
    (results / "loadtest.json").write_text(json.dumps({"what": what, "machine": about, "figures": figures}, indent=1) + "\n")
    for key, value in figures.items():
        print(f"{key:<42} {value['median']:>12,.1f}   ({value['min']:,.1f} to {value['max']:,.1f})")


main()

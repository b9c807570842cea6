#!/usr/bin/env python3
"""Measures this build on this machine and writes bench/results/build/NAME.json.

  bench/measure.py relay accept accept_in_memory latency idle deep   (all of them when none is named)

Each figure is the median of ROUNDS runs, with the least and the most. Source, sink and server share
the machine's CPUs. MESSAGES, ROUNDS, DEEP and IDLE (environment) change the amounts.
"""
import json, os, pathlib, platform, shutil, signal, socket, statistics, subprocess, sys, tempfile, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
ROUNDS = int(os.environ.get("ROUNDS", 3))
MESSAGES = int(os.environ.get("MESSAGES", 50_000))
DEEP = int(os.environ.get("DEEP", 1_000_000))
IDLE = int(os.environ.get("IDLE", 10_000))
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


class Server:
    """The server under test, in a directory of its own."""

    def __init__(self, next_hop, *more, directory=None):
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="posthaste-measure."))
        self.smtp, self.http = free_port(), free_port()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [BIN / "posthaste", "run", "--listen", f"127.0.0.1:{self.smtp}", "--http", f"127.0.0.1:{self.http}",
             "--spool", self.dir / "spool", "--log", self.dir / "log", "--next-hop", next_hop, *more],
            stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if line.strip() == "posthaste: ready":
                self.ready_s = time.monotonic() - self.began
                return
        sys.exit("measure: the server did not start")

    def cpu_s(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss_mib(self, peak=False):
        key = "VmHWM:" if peak else "VmRSS:"
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(key):
                return int(line.split()[1]) / 1024

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])

    def stop(self, hard=False, keep=False):
        self.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        code = self.process.wait(120)
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        if not hard and code != 0:
            sys.exit(f"measure: the server ended with {code}")


def source(server, *more):
    done = subprocess.run(
        [BIN / "posthaste-load", "source", "--to", f"127.0.0.1:{server.smtp}", "--domain", "sink.test",
         "--threads", "1", "--json", *map(str, more)], capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


class Sink:
    def __init__(self, messages):
        self.port = free_port()
        self.report = tempfile.NamedTemporaryFile(suffix=".json", delete=False).name
        self.process = subprocess.Popen(
            [BIN / "posthaste-load", "sink", "--listen", f"127.0.0.2:{self.port}", "--expect", str(messages),
             "--threads", "1", "--json", "--report", self.report], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.address = f"127.0.0.2:{self.port}"
        time.sleep(0.3)

    def result(self):
        self.process.wait(600)
        return json.load(open(self.report))


def relay():
    """10 KB, 100 sessions, 20 messages per connection, durable, out to one sink."""
    sink = Sink(MESSAGES)
    server = Server(sink.address)
    before = server.cpu_s()
    sent = source(server, "--messages", MESSAGES, "--sessions", 100, "--per-connection", 20, "--size", "10k")
    got = sink.result()
    cpu = server.cpu_s() - before
    rss = server.rss_mib(peak=True)
    server.stop()
    return {
        "relayed_per_s": got["messages_per_second"], "accepted_per_s": sent["messages_per_second"],
        "cpu_us_per_message": cpu / MESSAGES * 1e6, "lost": got["lost"], "duplicates": got["duplicates"],
        "accept_p50_ms": sent["dot_to_250"]["p50_ms"], "accept_p99_ms": sent["dot_to_250"]["p99_ms"],
        "end_to_end_p50_ms": got["latency"]["p50_ms"], "end_to_end_p99_ms": got["latency"]["p99_ms"],
        "rss_peak_mib": rss,
    }


def accept(*more):
    """As relay, but the next hop refuses connections: all mail stays."""
    server = Server("127.0.0.2:1", *more)
    before = server.cpu_s()
    sent = source(server, "--messages", MESSAGES, "--sessions", 100, "--per-connection", 20, "--size", "10k")
    cpu = server.cpu_s() - before
    server.stop()
    return {
        "accepted_per_s": sent["messages_per_second"], "cpu_us_per_message": cpu / MESSAGES * 1e6,
        "accept_p50_ms": sent["dot_to_250"]["p50_ms"], "accept_p99_ms": sent["dot_to_250"]["p99_ms"],
    }


def accept_in_memory():
    """As accept, with memtables that hold it all: nothing is written but the log."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write('[spool]\nmemtables_max = "3GiB"\n')
        config.flush()
        return accept("--config", config.name)


def latency():
    """100 messages a second, open loop: an easy load."""
    sink = Sink(1000)
    server = Server(sink.address)
    sent = source(server, "--messages", 1000, "--sessions", 10, "--per-connection", 20, "--size", "10k", "--rate", 100)
    got = sink.result()
    server.stop()
    return {
        "accept_p50_ms": sent["dot_to_250"]["p50_ms"], "accept_p99_ms": sent["dot_to_250"]["p99_ms"],
        "end_to_end_p50_ms": got["latency"]["p50_ms"], "end_to_end_p99_ms": got["latency"]["p99_ms"],
    }


def idle():
    """IDLE sessions that say nothing beside 1,000 that send; the p99 of 250 without and with them."""
    figures = {}
    for name, count in (("alone", 0), ("beside_idle", IDLE)):
        sink = Sink(MESSAGES)
        server = Server(sink.address)
        held = None
        if count:
            before = server.rss_mib()
            held = hold(server, count)
            figures["octets_per_idle_session"] = (server.rss_mib() - before) * 1024 * 1024 / count
        sent = source(server, "--messages", MESSAGES, "--sessions", 1000, "--per-connection", 20, "--size", "10k")
        figures[f"accept_p50_ms_{name}"] = sent["dot_to_250"]["p50_ms"]
        figures[f"accept_p99_ms_{name}"] = sent["dot_to_250"]["p99_ms"]
        figures[f"failed_{name}"] = sent["failed"] + sent["unanswered"]
        sink.result()
        for one in held or ():
            one.close()
        server.stop()
    return figures


def hold(server, count):
    """Sessions that have said EHLO, from several loopback addresses so that no client bound is hit."""
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    for number in range(count):
        one = socket.create_connection(("127.0.0.1", server.smtp), 10, (f"127.0.0.{10 + number // 2000}", 0))
        one.recv(512)
        one.sendall(b"EHLO idle.test\r\n")
        one.recv(1024)
        held.append(one)
    return held


def deep():
    """DEEP messages of 1 KB to a site that refuses connections, then a crash, a restart, a delivery."""
    port = free_port()
    server = Server(f"127.0.0.2:{port}", "--retry", "1h", "--max-age", "5d")
    empty = server.rss_mib()
    sent = source(server, "--messages", DEEP, "--sessions", 200, "--per-connection", 1000, "--size", "1k")
    time.sleep(3)
    queued, rss = server.metric("posthaste_queue_entries"), server.rss_mib()
    first = {"accepted_per_s": sent["messages_per_second"], "queued": queued, "rss_mib": rss, "rss_empty_mib": empty}
    server.stop(hard=True, keep=True)
    again = Server(f"127.0.0.2:{port}", "--retry", "1h", "--max-age", "5d", directory=server.dir)
    first["restart_s"] = again.ready_s
    first["queued_after_restart"] = again.metric("posthaste_queue_entries")
    first["rss_after_restart_mib"] = again.rss_mib()
    again.stop(keep=True)
    sink = subprocess.Popen([BIN / "posthaste-load", "sink", "--listen", f"127.0.0.2:{port}", "--expect", str(DEEP),
                             "--threads", "1", "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    last = Server(f"127.0.0.2:{port}", "--retry", "1h", "--max-age", "5d", directory=server.dir)
    while not last.metric('posthaste_recipients_total{outcome="delivered"}'):
        time.sleep(0.02)
    first["restart_to_first_delivery_s"] = time.monotonic() - last.began
    time.sleep(10)
    delivered = last.metric('posthaste_recipients_total{outcome="delivered"}')
    first["drain_per_s"] = delivered / (time.monotonic() - last.began - first["restart_to_first_delivery_s"])
    first["rss_draining_mib"] = last.rss_mib()
    last.stop(hard=True)
    sink.kill()
    sink.wait()
    return first


def machine():
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(), "commit": commit,
            "load_before": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main():
    known = {"relay": relay, "accept": accept, "accept_in_memory": accept_in_memory, "latency": latency, "idle": idle, "deep": deep}
    wanted = sys.argv[1:] or list(known)
    if any(name not in known for name in wanted):
        sys.exit(__doc__)
    results = ROOT / "bench" / "results" / "build"
    results.mkdir(exist_ok=True)
    for name in wanted:
        about = machine()
        rounds = [known[name]() for _ in range(1 if name == "deep" else ROUNDS)]
        figures = {}
        for key in rounds[0]:
            values = sorted(one[key] for one in rounds)
            figures[key] = {"median": statistics.median(values), "min": values[0], "max": values[-1]}
        (results / f"{name}.json").write_text(json.dumps({"what": known[name].__doc__, "machine": about, "figures": figures}, indent=1) + "\n")
        print(f"{name}: {known[name].__doc__}")
        for key, value in figures.items():
            print(f"  {key:<32} {value['median']:>12,.1f}   ({value['min']:,.1f} to {value['max']:,.1f})")


main()

"""One run: a server is started empty, loaded, watched and ended; figures come out."""
import dataclasses
import os
import resource
import shutil
import subprocess
import threading
import time

import accounts
import harness
from harness import LOAD, Failed
from install import Missing
from peer import ADDRESS, HOST, PORT
from world import DEAD, SINK, domain

WARM = 100
WARM_SESSIONS = 10
# A trial this short says nothing about the rate.
TRIAL_S_MIN = 1.5
TRIAL = 400
TRIALS_MAX = 5
# What one run may write to the disk.
OCTETS_MAX = 6 << 30
SILENCE_S_MAX = 30
SAMPLE_S = 1.0


def raise_files():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Watch:
    """CPU time of a server between two moments, and the most memory it had."""

    def __init__(self, server):
        self.server = server
        self.peak = 0.0
        self.over = threading.Event()

    def __enter__(self):
        self.before = self.server.account.cpu_s()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def _sample(self):
        while True:
            self.peak = max(self.peak, accounts.memory_mib(self.server.account.pids()))
            if self.over.wait(SAMPLE_S):
                return

    def __exit__(self, *_):
        # What follows a delivery (the queue file's end) belongs to its price.
        time.sleep(0.5)
        self.cpu_s = self.server.account.cpu_s() - self.before
        self.over.set()
        self.thread.join()


def source(point, messages, names, patience):
    flags = ["--messages", messages, "--sessions", point.sessions, "--per-connection", point.per_connection, "--size", point.size,
             "--timeout", "120s"]
    if not point.pipelining:
        flags.append("--no-pipelining")
    if point.rate:
        flags += ["--rate", point.rate]
    return harness.source(ADDRESS, *flags, domains=names, patience=patience)


def sink_of(world, messages):
    """The next hop of every domain."""
    return harness.Sink("0.0.0.0:25", messages, "--idle-exit", f"{SILENCE_S_MAX}s", start=world.helper)


def names(point):
    return [SINK] if point.domains == 1 else [domain(n) for n in range(point.domains)]


def accepted(sent):
    return {
        "accepted_per_s": sent["messages_per_second"],
        "failed": sent["failed"] + sent["unanswered"] + sent["not_sent"],
        **{f"accept_{p}_ms": sent["dot_to_250"][f"{p}_ms"] for p in ("p50", "p90", "p99", "p999")},
    }


def priced(watch, messages):
    return {"cpu_s_per_1000": watch.cpu_s / messages * 1000, "rss_peak_mib": watch.peak}


def through(world, server, point, messages, patience):
    """`messages` in and out again."""
    sink = sink_of(world, messages)
    try:
        with Watch(server) as watch:
            sent = source(point, messages, names(point), patience)
            got = sink.result(patience)
    finally:
        sink.end()
    return {
        "relayed_per_s": got["messages_per_second"],
        **accepted(sent), **priced(watch, messages),
        "lost": got["lost"], "duplicates": got["duplicates"],
        **{f"end_to_end_{p}_ms": got["latency"][f"{p}_ms"] for p in ("p50", "p90", "p99", "p999")},
    }


def warm(world, server, point, patience):
    through(world, server, dataclasses.replace(point, sessions=min(point.sessions, WARM_SESSIONS), idle=0), WARM, patience)


def relay(world, server, point, messages, patience):
    warm(world, server, point, patience)
    return through(world, server, point, messages, patience)


def accept(world, server, point, messages, patience):
    with Watch(server) as watch:
        sent = source(point, messages, [DEAD], patience)
    return {**accepted(sent), **priced(watch, messages)}


def tool(name):
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if found is None:
        raise Missing(f"no {name} (Postfix)")
    return found


def smtp_source(point, messages, to, patience):
    """Postfix's generator; seconds that it took."""
    command = [tool("smtp-source"), "-s", point.sessions, "-l", point.size, "-m", messages, "-f", f"from@{SINK}", "-t", f"to@{to}",
               f"{HOST}:{PORT}"]
    began = time.monotonic()
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise Failed(f"smtp-source had not sent {messages:,} messages after {patience:.0f} s") from None
    if done.returncode != 0:
        raise Failed(f"smtp-source: {done.stderr.strip()}")
    return time.monotonic() - began


def witness(world, server, point, messages, patience):
    with Watch(server) as watch:
        took = smtp_source(point, messages, DEAD, patience)
    return {"accepted_per_s": messages / took, **priced(watch, messages)}


def foreign(world, server, point, messages, patience):
    """As relay, but generator and sink are Postfix's; the sink ends with the last message."""
    warm(world, server, point, patience)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    sink = world.helper([tool("smtp-sink"), *user, "-M", messages, "0.0.0.0:25", 1000], stderr=subprocess.PIPE, text=True)
    try:
        with Watch(server) as watch:
            began = time.monotonic()
            sent = smtp_source(point, messages, SINK, patience)
            try:
                said = sink.communicate(timeout=patience)[1]
            except subprocess.TimeoutExpired:
                raise Failed(f"smtp-sink had not seen {messages:,} messages after {patience:.0f} s") from None
            took = time.monotonic() - began
        if sink.returncode != 0:
            raise Failed(f"smtp-sink: {said.strip()}")
    finally:
        sink.kill()
        sink.wait()
    return {"relayed_per_s": messages / took, "accepted_per_s": messages / sent, **priced(watch, messages)}


def idle(world, server, point, messages, patience):
    warm(world, server, point, patience)
    if not point.idle:
        return through(world, server, point, messages, patience)
    before = accounts.memory_mib(server.account.pids())
    held = world.helper(
        [LOAD, "idle", "--to", ADDRESS, "--sessions", point.idle], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = held.stdout.readline()
        if held.poll() is not None:
            raise Failed(f"silent sessions: {line.strip()}")
        each = (accounts.memory_mib(server.account.pids()) - before) * (1 << 20) / point.idle
        figures = through(world, server, point, messages, patience)
    finally:
        held.terminate()
        held.communicate()
    return {**figures, "octets_per_silent_session": each}


def deep(world, server, point, messages, patience):
    fill = dataclasses.replace(point, size=1024, sessions=200, per_connection=1000)
    empty = accounts.memory_mib(server.account.pids())
    with Watch(server) as watch:
        sent = source(fill, point.depth, [DEAD], point.fill_seconds_max * 1.2 + 60)
    figures = {
        "fill_per_s": sent["messages_per_second"], "fill_cpu_s_per_1000": watch.cpu_s / point.depth * 1000,
        "failed_filling": sent["failed"] + sent["unanswered"] + sent["not_sent"],
    }
    time.sleep(3)
    rss = accounts.memory_mib(server.account.pids())
    figures |= {"rss_deep_mib": rss, "octets_per_waiting": (rss - empty) * (1 << 20) / point.depth}
    figures |= relay(world, server, point, messages, patience)
    server.stop(hard=True)
    figures["restart_s"] = server.start()
    sink = sink_of(world, 1)
    try:
        began = time.monotonic()
        source(dataclasses.replace(point, sessions=1), 1, [SINK], patience)
        while sink.process.poll() is None:
            if time.monotonic() - began > patience:
                raise Failed("no delivery after the start")
            time.sleep(0.005)
        # The sink stays 0.3 s for duplicates.
        figures["restart_to_first_delivery_s"] = figures["restart_s"] + time.monotonic() - began - 0.3
    finally:
        sink.end()
    return figures


KINDS = {"relay": relay, "accept": accept, "witness": witness, "foreign": foreign, "idle": idle, "deep": deep}
HOLDS = ("accept", "witness")


def one(world, peer, scenario, point, messages):
    """The figures of one run."""
    patience = point.seconds * 6 + 60
    directory = world.work / f"run-{peer.name}"
    directory.mkdir()
    directory.chmod(0o755)
    server = peer(world, directory, point.setting(scenario.kind in HOLDS))
    try:
        server.configure()
        server.start()
        return KINDS[scenario.kind](world, server, point, messages, patience)
    except Failed as failed:
        raise Failed(f"{failed}; its last words: {server.last_words()}") from None
    finally:
        server.stop(hard=scenario.kind == "deep")
        shutil.rmtree(directory, ignore_errors=True)


def calibrate(world, peer, scenario, point):
    """Messages that a run of `point.seconds` takes, by trials of growing length."""
    if point.messages:
        return point.messages
    if point.rate:
        return max(1, int(point.rate * point.seconds))
    trial = dataclasses.replace(point, depth=min(point.depth, 1000))
    messages = TRIAL if point.size < (1 << 20) else TRIAL // 10
    for _ in range(TRIALS_MAX):
        figures = one(world, peer, scenario, trial, messages)
        rate = figures.get("relayed_per_s") or figures["accepted_per_s"]
        if messages / rate >= TRIAL_S_MIN:
            break
        messages = int(min(rate * TRIAL_S_MIN * 1.3, messages * 20)) + 1
    if point.depth and point.depth / figures["fill_per_s"] > point.fill_seconds_max:
        raise Missing(f"{point.depth:,} messages at {figures['fill_per_s']:.0f}/s take longer than {point.fill_seconds_max:.0f} s to accept")
    # Each session and each domain has its turn, as far as time and disk allow.
    wanted = int(rate * point.seconds) + 1
    wanted = max(wanted, min(max(point.sessions * 2, point.domains), wanted * 4))
    return min(wanted, max(TRIAL // 10, OCTETS_MAX // point.size))

"""The server under test, the sink behind it and the source before it; all of them end with the script."""
import atexit
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from .process import cpu_s, free_port, memory_mib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute() / "release"
LOAD = BIN / "posthaste-load"
READY_S_MAX = 300
STOP_S_MAX = 120
DELIVERY_S_MAX = 600
# One argument of a command has at most 128 KiB.
DOMAINS_A_FLAG = 1000
# Refuses connections.
NOBODY = "127.0.0.2:1"

# What is to be undone when the script ends, however it ends.
_AT_END = contextlib.ExitStack()
atexit.register(_AT_END.close)


class Failed(Exception):
    """A run that gave no figures, and why."""


def amount(name, default):
    """A count that the environment may change."""
    return int(os.environ.get(name) or default)


def exit_on_signals():
    """SIGINT and SIGTERM end the script, and with it all that it started."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _launch(command, **options):
    process = subprocess.Popen([str(word) for word in command], **options)
    _AT_END.callback(_end, process)
    return process


def _end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Server:
    """Posthaste with a spool and a log of its own, delivering to `next_hop`."""

    def __init__(self, next_hop, *flags, config="", directory=None):
        if directory is None:
            directory = tempfile.mkdtemp(prefix="posthaste-run.")
            _AT_END.callback(shutil.rmtree, directory, ignore_errors=True)
        self.dir = pathlib.Path(directory)
        self.address, self.http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        if config:
            (self.dir / "posthaste.toml").write_text(config)
            flags = (*flags, "--config", self.dir / "posthaste.toml")
        self.began = time.monotonic()
        with open(self.dir / "output", "w") as output:
            self.process = _launch(
                [BIN / "posthaste", "run", "--listen", self.address, "--http", self.http, "--spool", self.dir / "spool",
                 "--log", self.dir / "log", "--next-hop", next_hop, *flags], stdout=subprocess.DEVNULL, stderr=output)
        while "posthaste: ready" not in self._output():
            if self.process.poll() is not None or time.monotonic() - self.began > READY_S_MAX:
                raise Failed(f"the server did not start: {self._output().strip()}")
            time.sleep(0.005)
        self.ready_s = time.monotonic() - self.began

    def _output(self):
        return (self.dir / "output").read_text(errors="replace")

    def cpu_s(self):
        return cpu_s([self.process.pid])

    def rss_mib(self):
        return memory_mib(self.process.pid, "VmRSS")

    def rss_peak_mib(self):
        return memory_mib(self.process.pid, "VmHWM")

    def stop(self, hard=False, keep=False):
        """Ends it; `hard` by SIGKILL, `keep` leaves its directory for the next one."""
        self.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"the server did not end within {STOP_S_MAX} s") from None
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        if not hard and code != 0:
            raise Failed(f"the server ended with {code}")


class Sink:
    """The next hop: takes `messages`, ends, and reports. `start` is what starts it."""

    def __init__(self, listen, messages, *flags, start=_launch):
        handle, path = tempfile.mkstemp(prefix="posthaste-sink.", suffix=".json")
        os.close(handle)
        self.report = pathlib.Path(path)
        _AT_END.callback(self.report.unlink, missing_ok=True)
        self.address = listen
        self.process = start(
            [LOAD, "sink", "--listen", listen, "--expect", messages, "--threads", 1, "--json", "--report", self.report, *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        if "listens" not in line:
            raise Failed(f"the sink: {line.strip()}")

    def result(self, patience=DELIVERY_S_MAX):
        """Its report, when all is there or it has given up."""
        try:
            self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.end()
            raise Failed(f"not all was delivered after {patience:.0f} s") from None
        text = self.report.read_text()
        self.report.unlink()
        return json.loads(text)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def source(to, *flags, domains=("sink.test",), patience=None):
    """Sends by `posthaste-load source` with these flags; gives its report."""
    command = [LOAD, "source", "--to", to, "--threads", 1, "--json", *flags]
    for at in range(0, len(domains), DOMAINS_A_FLAG):
        command += ["--domain", ",".join(domains[at : at + DOMAINS_A_FLAG])]
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise Failed(f"the source had not sent all after {patience:.0f} s") from None
    if not done.stdout.strip():
        raise Failed(f"the source: {done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def through(messages, *flags, config="", stays=False, sessions=100, per_connection=20, size="10k", rate=None, sink_flags=()):
    """A fresh server; mail in by SMTP, durable, and out to one sink. `stays`: the next hop refuses, so that all is kept."""
    sink = None if stays else Sink(f"127.0.0.2:{free_port('127.0.0.2')}", messages, *sink_flags)
    server = Server(NOBODY if stays else sink.address, *flags, config=config)
    before = server.cpu_s()
    paced = () if rate is None else ("--rate", rate)
    sent = source(
        server.address, "--messages", messages, "--sessions", sessions, "--per-connection", per_connection, "--size", size, *paced)
    missing = sent["failed"] + sent["unanswered"]
    if sink and missing:
        raise Failed(f"{missing} of {messages} messages were not taken: {sent['errors']}")
    got = sink.result() if sink else None
    cpu, rss = server.cpu_s() - before, server.rss_peak_mib()
    server.stop()
    figures = {
        "accepted_per_s": sent["messages_per_second"], "failed": sent["failed"] + sent["unanswered"],
        "cpu_us_per_message": cpu / messages * 1e6, "rss_peak_mib": rss,
        "accept_p50_ms": sent["dot_to_250"]["p50_ms"], "accept_p99_ms": sent["dot_to_250"]["p99_ms"],
    }
    if got:
        figures |= {
            "relayed_per_s": got["messages_per_second"], "lost": got["lost"], "duplicates": got["duplicates"],
            "end_to_end_p50_ms": got["latency"]["p50_ms"], "end_to_end_p99_ms": got["latency"]["p99_ms"],
        }
    return figures

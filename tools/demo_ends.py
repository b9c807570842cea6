#!/usr/bin/env python3
"""`make demo` leaves nothing behind, neither processes nor files: when it comes to its end, and when Ctrl-C stops it midway."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
# In the environment of all that a demo starts.
MARK = "POSTHASTE_DEMO_RUN"
PATIENCE_S = 600
END_S_MAX = 60


def running(mark):
    """Processes that carry the mark: their ids and command lines."""
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(process.name)] = command.strip()
        except OSError:
            continue
    # One that has ended and is not waited for has no command line.
    return {pid: command for pid, command in found.items() if command}


def wait(what, seconds, look):
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            sys.exit(f"demo_ends: waited in vain until {what}")
        time.sleep(0.05)


def is_under_load(mark):
    commands = running(mark).values()
    return any("/posthaste run" in c for c in commands) and any("/posthaste-load source" in c for c in commands)


def run(messages, is_stopped):
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, MARK: mark, "TMPDIR": folder, "MESSAGES": str(messages)}
        # A process group of its own, as a shell gives each line typed.
        demo = subprocess.Popen(["make", "demo"], cwd=ROOT, env=environment, start_new_session=True)
        try:
            if is_stopped:
                wait("the demo is under load", PATIENCE_S, lambda: is_under_load(mark) or demo.poll() is not None)
                os.killpg(demo.pid, signal.SIGINT)
            code = demo.wait(PATIENCE_S)
            wait(f"its processes end: {running(mark)}", END_S_MAX if is_stopped else 1, lambda: not running(mark))
            if is_stopped == (code == 0):
                sys.exit(f"demo_ends: exit status {code}")
            if left := os.listdir(folder):
                sys.exit(f"demo_ends: files are left: {left}")
        finally:
            for pid in running(mark):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    run(5_000, is_stopped=False)
    # More than it can have done before it is stopped.
    run(2_000_000, is_stopped=True)
    print("demo_ends: nothing is left")

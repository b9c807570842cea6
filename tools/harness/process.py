"""Processes in the kernel's own numbers, and ports."""
import os
import pathlib
import socket

TICK = os.sysconf("SC_CLK_TCK")


def free_port(address="127.0.0.1"):
    with socket.create_server((address, 0)) as held:
        return held.getsockname()[1]


def stat(pid):
    """/proc/PID/stat behind the name: state, parent, …; None when the process is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def cpu_s(pids):
    """User and system time of these processes, those of their children that have ended included."""
    return sum(sum(map(int, fields[11:15])) for fields in map(stat, pids) if fields) / TICK


def memory_mib(pid, key):
    """`VmRSS`; `VmHWM`, the most it ever had; `Pss`, where a page that several share is shared out. 0 when the process is gone."""
    file = pathlib.Path(f"/proc/{pid}") / ("smaps_rollup" if key == "Pss" else "status")
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), 0)

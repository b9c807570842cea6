"""What a server costs, in the kernel's own numbers: CPU time and memory of everything it started."""
import os
import pathlib

import harness


def cgroup_home():
    """The directory of this process's own cgroup v2, or None."""
    try:
        mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        own = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    place = next((line.split("::", 1)[1] for line in own if line.startswith("0::")), None)
    for line in mounts:
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and place is not None:
            return pathlib.Path(fields.split()[4] + place.rstrip("/"))
    return None


def make_cgroup():
    """A new cgroup below our own, or None where the system does not let us."""
    home = cgroup_home()
    if home is None:
        return None
    made = home / f"posthaste-bench-{os.getpid()}"
    try:
        made.mkdir()
    except OSError:
        return None
    return made


class Cgroup:
    """All that was started in one cgroup, ended processes included."""

    source = "cgroup v2 cpu.stat"

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def wrap(self, command):
        """The command, started inside."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs"), *map(str, command)]

    def pids(self):
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split() if pid != "0"]

    def cpu_s(self):
        first = (self.path / "cpu.stat").read_text().splitlines()[0]
        return int(first.split()[1]) / 1e6


class Everybody:
    """Where no cgroup can be made: every process of the world that is none of the harness's own."""

    source = "/proc/PID/stat, children that ended included"

    def __init__(self):
        self.own = {1, os.getpid()}

    def wrap(self, command):
        return [str(part) for part in command]

    def pids(self):
        ours = set(self.own)
        parents = {}
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            fields = harness.stat(pid)
            if fields:
                parents[pid] = int(fields[1])
        return [pid for pid in parents if pid not in ours]

    def cpu_s(self):
        # Orphans end as children of process 1.
        return harness.cpu_s(self.pids()) + sum(map(int, harness.stat(1)[13:15])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pids):
    """Resident memory; a page that several processes share is shared out among them."""
    return sum(harness.memory_mib(pid, "Pss") for pid in pids)

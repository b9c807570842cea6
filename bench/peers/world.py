"""A world of its own for a run: network with nothing but loopback, mounts, processes.

Servers find their files where their packages want them, name servers answer for bench.test, port 25
is free, and all of it ends with the run: the system's own files and addresses are never touched.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import accounts

ZONE = "bench.test"
SINK = f"sink.{ZONE}"
DEAD = f"dead.{ZONE}"
DOMAINS_MAX = 10_000
# No route leads there: a connect fails at once.
DEAD_ADDRESS = "10.66.6.6"
OWN_ADDRESS = "10.77.0.1/32"
# A server whose queue of connections is short (OpenSMTPD: 5) would, with cookies, have clients that think they
# are connected and are forgotten. Without, they knock again: each second, not after ever longer pauses.
KERNEL = {"tcp_syncookies": 0, "tcp_syn_linear_timeouts": 60, "tcp_rto_max_ms": 1000}
USERS = ("postfix", "postdrop", "Debian-exim", "opensmtpd", "opensmtpq")
# Layers of a package that is unpacked in private.
LAYERS = ("usr", "etc", "var/lib", "var/spool")


def domain(number):
    return f"d{number}.{ZONE}"


def enter(program, machine):
    """Runs a Python program, given with its arguments, inside a new world and gives its exit status."""
    base = os.environ.get("BENCH_DIR") or "/var/tmp"
    work = pathlib.Path(tempfile.mkdtemp(prefix="posthaste-bench.", dir=base))
    work.chmod(0o755)
    cgroup = accounts.make_cgroup()
    (work / "machine.json").write_text(machine)
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    # The shell is process 1 of the world: it takes in the orphans that daemons leave.
    inner = ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, *program]
    environment = {**os.environ, "BENCH_WORLD": str(work), "BENCH_CGROUP": str(cgroup or "")}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    child = subprocess.Popen([*unshare, *inner], env=environment)
    try:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(work, ignore_errors=True)
        if cgroup:
            _remove(cgroup)


def _remove(cgroup):
    """Killed processes leave their cgroup a little later."""
    for _ in range(100):
        try:
            for inside in cgroup.glob("*/"):
                inside.rmdir()
            return cgroup.rmdir()
        except OSError:
            time.sleep(0.05)


class World:
    """The inside."""

    def __init__(self, packages):
        self.work = pathlib.Path(os.environ["BENCH_WORLD"])
        self.cgroup = pathlib.Path(os.environ["BENCH_CGROUP"]) if os.environ["BENCH_CGROUP"] else None
        self.everybody = None if self.cgroup else accounts.Everybody()
        self.is_root = not _is_mapped()
        self.starts = 0
        run("ip", "link", "set", "lo", "up")
        # Resolvers leave out addresses (AI_ADDRCONFIG) where a system has none beside loopback.
        run("ip", "address", "add", OWN_ADDRESS, "dev", "lo")
        for name, value in KERNEL.items():
            knob = pathlib.Path("/proc/sys/net/ipv4") / name
            if knob.exists():
                knob.write_text(f"{value}\n")
        self._lay(packages)
        self._etc()
        self.names = None

    def _lay(self, packages):
        for layer in LAYERS:
            lower = [str(path / layer) for path in packages if (path / layer).is_dir()]
            upper, scratch = self.work / "upper" / layer, self.work / "scratch" / layer
            upper.mkdir(parents=True)
            scratch.mkdir(parents=True)
            options = f"lowerdir={':'.join([*lower, '/' + layer])},upperdir={upper},workdir={scratch}"
            run("mount", "-t", "overlay", "overlay", "-o", options, "/" + layer)
        run("mount", "-t", "tmpfs", "tmpfs", "/run")

    def _etc(self):
        etc = pathlib.Path("/etc")
        for name, text in (
            ("resolv.conf", "nameserver 127.0.0.1\n"),
            ("hosts", f"127.0.0.1 localhost mta.{ZONE} mta\n"),
            ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n"),
            ("mailname", f"mta.{ZONE}\n"),
        ):
            (etc / name).unlink(missing_ok=True)
            (etc / name).write_text(text)
        with open(etc / "passwd", "a+") as passwd, open(etc / "group", "a+") as group:
            for file in (passwd, group):
                file.seek(0)
            users = {line.split(":")[0] for line in passwd}
            groups = {line.split(":")[0] for line in group}
            for number, user in enumerate(USERS, 64_800):
                if user not in users:
                    passwd.write(f"{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n")
                if user not in groups:
                    group.write(f"{user}:x:{number}:\n")

    def account(self):
        """A fresh account for one start of a server."""
        if self.everybody:
            return self.everybody
        self.starts += 1
        inside = self.cgroup / f"start-{self.starts}"
        inside.mkdir()
        return accounts.Cgroup(inside)

    def helper(self, command, **options):
        """Starts a process that no server's account includes."""
        child = subprocess.Popen([str(part) for part in command], **options)
        if self.everybody:
            self.everybody.own.add(child.pid)
        return child

    def serve_names(self):
        """unbound, with one MX and one address for each domain."""
        home = self.work / "names"
        home.mkdir()
        zone = [(SINK, "127.0.0.2"), (DEAD, DEAD_ADDRESS)]
        zone += [(domain(n), f"127.16.{n >> 8}.{n & 255}") for n in range(DOMAINS_MAX)]
        with open(home / "zone.conf", "w") as file:
            for name, address in zone:
                file.write(f'local-data: "{name}. 3600 MX 10 mx-{name}."\nlocal-data: "mx-{name}. 3600 A {address}"\n')
            file.write(f'local-data: "mta.{ZONE}. 3600 A 127.0.0.1"\n')
        (home / "unbound.conf").write_text(
            f"""server:
 directory: "{home}"
 chroot: ""
 username: ""
 pidfile: ""
 do-daemonize: no
 use-syslog: no
 logfile: "{home}/log"
 interface: 127.0.0.1
 module-config: "iterator"
 local-zone: "." static
 local-zone: "{ZONE}." static
 include: "{home}/zone.conf"
remote-control:
 control-enable: no
"""
        )
        self.names = self.helper(["unbound", "-d", "-c", home / "unbound.conf"], stderr=subprocess.DEVNULL)

    def mount(self, source, target):
        pathlib.Path(target).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", str(source), str(target))

    def unmount(self, target):
        run("umount", str(target))


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(command)}: {done.stderr.strip()}")


def _is_mapped():
    """Whether root here is some other user outside: then there is one user only."""
    return pathlib.Path("/proc/self/uid_map").read_text().split()[2] == "1"

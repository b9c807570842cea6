"""What every server under test has in common: installed, configured into a directory, started, ended."""
import dataclasses
import pathlib
import signal
import socket
import subprocess
import time

import install
from install import Missing

HOST = "127.0.0.1"
PORT = 2525
ADDRESS = f"{HOST}:{PORT}"
NAME = "mta.bench.test"
READY_S_MAX = 30
STOP_S_MAX = 30
MESSAGE_OCTETS_MAX = 64 << 20
NOBODY = 65534


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a run asks of a server."""

    # Sessions that a client will hold at once.
    sessions: int = 100
    # Connections to one destination domain.
    connections: int = 100
    # Accept and keep: the mail is for a site that is down, or delivery is switched off where a server can do that.
    hold: bool = False
    # One of the server's durability modes.
    mode: str = "as shipped"


class Peer:
    """One server. A subclass says how; an instance is one start of it in a directory of its own."""

    name = ""
    # The Debian or npm package.
    package = ""
    # What a 250 of it means in each mode; the first mode is what it ships with.
    durability = {}
    # Starts as root only.
    needs_root = False
    # Sessions it can serve in a reasonable machine; None: no bound of its own.
    sessions_max = None
    # Why it cannot bound connections to one destination, if so.
    no_lane_limits = None

    # Set by `install`.
    root = None
    version = ""

    @classmethod
    def install(cls):
        """Makes the server available; raises Missing."""
        raise NotImplementedError

    def __init__(self, world, directory, setting):
        self.world = world
        self.dir = pathlib.Path(directory)
        self.setting = setting
        self.account = None
        self.process = None

    @classmethod
    def refuses(cls, setting, needs_lane_limits):
        """Why this server is not measured with this setting, or None."""
        if setting.mode not in cls.durability:
            return f"has no mode `{setting.mode}`"
        if cls.sessions_max is not None and setting.sessions > cls.sessions_max:
            return f"one process for each session: not tried beyond {cls.sessions_max:,} sessions"
        if needs_lane_limits and cls.no_lane_limits:
            return cls.no_lane_limits
        return None

    def configure(self):
        """Writes its configuration; once for each directory."""
        raise NotImplementedError

    def command(self):
        """What starts it, in the foreground where it can."""
        raise NotImplementedError

    def start(self):
        """Starts it and waits for its greeting; gives the seconds that took."""
        self.account = self.world.account()
        began = time.monotonic()
        with open(self.dir / "output", "ab") as output:
            self.process = subprocess.Popen(
                self.account.wrap(self.command()), stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.dir,
                start_new_session=True)
        while not greets():
            is_gone = self.process.poll() is not None and not self.account.pids()
            if is_gone or time.monotonic() - began > READY_S_MAX:
                raise Missing(f"no greeting after {time.monotonic() - began:.0f} s: {self.last_words()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def last_words(self):
        lines = (self.dir / "output").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:])

    def ask_to_stop(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, hard=False):
        """Ends all its processes; those that do not end by themselves are killed."""
        if self.account is None:
            return
        if not hard:
            self.ask_to_stop()
        deadline = time.monotonic() + (0 if hard else STOP_S_MAX)
        while self.account.pids():
            if time.monotonic() > deadline:
                for pid in self.account.pids():
                    subprocess.run(["kill", "-KILL", str(pid)], stderr=subprocess.DEVNULL)
            time.sleep(0.02)
            self.process.poll()
        self.process.wait()
        self.account = None

    def as_nobody(self, command):
        """For servers that need no root once they run: as in production, a user of no rights."""
        if not self.world.is_root:
            return [*map(str, command)]
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *map(str, command)]


class Debian(Peer):
    """As Debian builds it: started by root, it drops to a user of its own."""

    needs_root = True

    @classmethod
    def install(cls):
        cls.root, cls.version = install.debian(cls.package)


def greets():
    try:
        with socket.create_connection((HOST, PORT), 5) as talk:
            talk.settimeout(5)
            if not talk.recv(512).startswith(b"220"):
                return False
            talk.sendall(b"QUIT\r\n")
            talk.recv(512)
            return True
    except OSError:
        return False


def give(path, user, mode=0o755):
    """A directory of the server's own user."""
    import shutil

    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    shutil.chown(path, user, user)

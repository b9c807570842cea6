"""Posthaste, the binary that this work tree built."""
import os
import subprocess

from harness import BIN
from install import Missing
from peer import ADDRESS, NAME, NOBODY, Peer


class Posthaste(Peer):
    name = "posthaste"
    package = "this work tree"
    durability = {
        "as shipped": "the write-ahead log is synced before each 250, one sync for all that waits (group commit)",
        "relaxed": "written, not synced: survives the process, not the machine",
        "memtables of 3 GiB": "as shipped; what is queued is not written a second time while it fits in memory",
    }

    @classmethod
    def install(cls):
        if not (BIN / "posthaste").exists():
            raise Missing(f"{BIN}/posthaste is not built: run `make build`")
        done = subprocess.run([BIN / "posthaste", "version"], capture_output=True, text=True)
        cls.version = (done.stdout.split() or ["unknown"])[-1]

    def configure(self):
        mode = self.setting.mode
        (self.dir / "posthaste.toml").write_text(
            f"""[node]
hostname = "{NAME}"
[[listener]]
address = "{ADDRESS}"
connections_per_client_max = 20000
[http]
address = "127.0.0.1:8000"
[spool]
path = "{self.dir}/spool"
durability = "{'relaxed' if mode == 'relaxed' else 'commit'}"
memtables_max = "{'3GiB' if mode == 'memtables of 3 GiB' else '256MiB'}"
[delivery]
allow_private_targets = true
connections_max = {self.setting.connections}
[log]
dir = "{self.dir}/log"
"""
        )
        if self.world.is_root:
            os.chown(self.dir, NOBODY, NOBODY)

    def command(self):
        binary = self.world.work / "bin"
        if not binary.is_dir():
            self.world.mount(BIN, binary)
        return self.as_nobody([binary / "posthaste", "run", "--config", self.dir / "posthaste.toml"])

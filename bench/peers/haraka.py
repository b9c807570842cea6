"""Haraka from npm."""
import os
import re
import shutil

import install
from peer import ADDRESS, MESSAGE_OCTETS_MAX, NAME, NOBODY, Peer

# All that stands between a client and the queue: everybody may relay.
PLUGIN = """exports.hook_rcpt = function (next, connection) {
    connection.relaying = true;
    next(OK);
};
"""


class Haraka(Peer):
    name = "haraka"
    package = "Haraka"
    durability = {"as shipped": "the queue file is synced (fsync) before each 250, its directory is not"}
    no_lane_limits = "bounds its connections to all destinations together only (outbound.ini concurrency_max)"

    @classmethod
    def install(cls):
        cls.root, cls.version = install.npm(cls.package)

    def configure(self):
        # What the package ships, and then our lines: without its files it does not start.
        config = self.dir / "config"
        shutil.copytree(self.root / "node_modules" / self.package / "config", config)
        connection = config / "connection.ini"
        connection.write_text(re.sub(r"(?m)^bytes=.*$", f"bytes={MESSAGE_OCTETS_MAX}", connection.read_text()))
        for name, text in {
            "config/smtp.ini": f"listen={ADDRESS}\nnodes=cpus\n",
            "config/outbound.ini": f"enable_tls=false\nlocal_mx_ok=true\nconcurrency_max={self.setting.connections}\n",
            "config/plugins": "take_all\n",
            "config/me": f"{NAME}\n",
            "plugins/take_all.js": PLUGIN,
            "package.json": '{"name": "bench"}\n',
        }.items():
            file = self.dir / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        (self.dir / "queue").mkdir()
        if self.world.is_root:
            for path in (self.dir, config, self.dir / "queue"):
                os.chown(path, NOBODY, NOBODY)

    def command(self):
        code = self.world.work / "haraka"
        if not code.is_dir():
            self.world.mount(self.root, code)
        return self.as_nobody(["node", code / "node_modules/Haraka/bin/haraka", "-c", self.dir])

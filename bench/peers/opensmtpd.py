"""OpenSMTPD as Debian builds it."""
from peer import HOST, MESSAGE_OCTETS_MAX, NAME, PORT, Debian

# Where it wants its queue; a directory of the run's disk is mounted there.
QUEUE = "/var/spool/smtpd"
# With one host for each domain these are all the same bound.
LIMITED = ("host", "route", "connector", "relay", "domain")
# As it ships it waits up to 5 s before it opens another connection to the same place.
DELAYS = ("conn-delay-host", "conn-delay-route", "conn-delay-source", "conn-delay-connector", "conn-delay-relay", "conn-delay-domain", "reconn-delay-route")
# It leaves a place alone for a minute where a session that it keeps for later is closed by the other end, as by the sink that ends
# with the warming-up: no session is kept.
KEPT = "session-keepalive"


class OpenSmtpd(Debian):
    name = "opensmtpd"
    package = "opensmtpd"
    durability = {"as shipped": "message and envelope files are synced (fsync) before each 250"}

    def configure(self):
        queue = self.dir / "queue"
        queue.mkdir(mode=0o711)
        queue.chmod(0o711)
        limits = "\n".join(f"mta limit max-conn-per-{what} {self.setting.connections}" for what in LIMITED)
        delays = "\n".join(f"mta limit {what} 0" for what in (*DELAYS, KEPT))
        (self.dir / "smtpd.conf").write_text(
            f"""smtp max-message-size "{MESSAGE_OCTETS_MAX >> 20}M"
{limits}
{delays}
listen on {HOST} port {PORT} hostname {NAME}
action "out" relay helo {NAME}
match from any for any action "out"
"""
        )
        (self.dir / "smtpd.conf").chmod(0o644)

    def command(self):
        self.world.mount(self.dir / "queue", QUEUE)
        hold = ["-P", "mta"] if self.setting.hold else []
        return ["/usr/sbin/smtpd", "-d", "-f", self.dir / "smtpd.conf", *hold]

    def stop(self, hard=False):
        started = self.account is not None
        super().stop(hard)
        if started:
            self.world.unmount(QUEUE)

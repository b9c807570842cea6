"""Exim as Debian builds it (exim4-daemon-light)."""
import pathlib

from peer import HOST, MESSAGE_OCTETS_MAX, NAME, PORT, Debian, give

USER = "Debian-exim"
# The one place where Debian's binary keeps its rights while it reads its configuration.
CONFIGURATION = pathlib.Path("/etc/exim4/exim4.conf")


class Exim(Debian):
    name = "exim"
    package = "exim4-daemon-light"
    durability = {"as shipped": "both spool files are synced (fsync) before each 250"}
    sessions_max = 1000
    no_lane_limits = "no bound of connections for each destination other than one (serialize_hosts)"

    def configure(self):
        give(self.dir / "spool", USER, 0o750)
        give(self.dir / "log", USER, 0o750)
        CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
        CONFIGURATION.write_text(
            f"""primary_hostname = {NAME}
local_interfaces = {HOST}.{PORT}
spool_directory = {self.dir}/spool
log_file_path = {self.dir}/log/%slog
pid_file_path = {self.dir}/spool/exim.pid
split_spool_directory = true
message_size_limit = {MESSAGE_OCTETS_MAX}
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1000
queue_only = {'true' if self.setting.hold else 'false'}
tls_advertise_hosts =
acl_smtp_rcpt = accept_all
begin acl
accept_all:
  accept
begin routers
mx:
  driver = dnslookup
  domains = *
  self = send
  transport = remote_smtp
begin transports
remote_smtp:
  driver = smtp
  hosts_avoid_tls = *
begin retry
* * F,2h,15m; G,16h,1h,1.5; F,4d,6h
"""
        )

    def command(self):
        # -q30m as Debian's service has it.
        return ["/usr/sbin/exim4", "-bdf", "-q30m"]

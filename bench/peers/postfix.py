"""Postfix as Debian builds it."""
import subprocess

from peer import HOST, MESSAGE_OCTETS_MAX, NAME, PORT, Debian, give


class Postfix(Debian):
    name = "postfix"
    package = "postfix"
    durability = {"as shipped": "the queue file is synced (fsync) before each 250"}
    sessions_max = 1000

    def configure(self):
        etc, setting = self.dir / "etc", self.setting
        etc.mkdir()
        (self.dir / "queue").mkdir()
        give(self.dir / "data", "postfix")
        (etc / "main.cf").write_text(
            f"""compatibility_level = 3.6
myhostname = {NAME}
queue_directory = {self.dir}/queue
data_directory = {self.dir}/data
maillog_file = {self.dir}/maillog
maillog_file_prefixes = {self.dir}
inet_interfaces = {HOST}
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
message_size_limit = {MESSAGE_OCTETS_MAX}
mailbox_size_limit = 0
smtpd_client_connection_count_limit = 0
default_process_limit = {max(200, setting.sessions + 100)}
default_destination_concurrency_limit = {setting.connections}
initial_destination_concurrency = {min(5, setting.connections)}
qmgr_message_active_limit = 100000
{'defer_transports = smtp' if setting.hold else ''}
"""
        )
        source = next(p for p in self._masters() if p.exists())
        (etc / "master.cf").write_text("\n".join(map(self._service, source.read_text().splitlines())) + "\n")
        if "postlog" not in (etc / "master.cf").read_text():
            with open(etc / "master.cf", "a") as file:
                file.write("postlog unix-dgram n - n - 1 postlogd\n")

    @staticmethod
    def _masters():
        import pathlib

        return [pathlib.Path("/usr/share/postfix/master.cf.dist"), pathlib.Path("/etc/postfix/master.cf")]

    @staticmethod
    def _service(line):
        """No service runs in a chroot (this queue directory has none of its files); SMTP is at our port."""
        fields = line.split()
        if not fields or line[0] in "# \t" or len(fields) < 8:
            return line
        fields[4] = "n"
        if fields[0] == "smtp" and fields[1] == "inet":
            fields[0] = f"{HOST}:{PORT}"
        return "\t".join(fields)

    def command(self):
        return ["/usr/sbin/postfix", "-c", self.dir / "etc", "start"]

    def ask_to_stop(self):
        subprocess.run(["/usr/sbin/postfix", "-c", str(self.dir / "etc"), "stop"], capture_output=True)

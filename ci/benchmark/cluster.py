"""PostgreSQL servers of the benchmark."""

import time

from benchmark.host import POSTGRES_BIN, Failed

ARCHIVER_SECONDS = 300
# pgbackrest refuses an archive command without its name.
ARCHIVE_SCRIPT = "archive-by-walrs-or-pgbackrest"


class Cluster:
    """A server that listens on a unix socket only, and archives with whichever contestant has its turn."""

    def __init__(self, host, name, port):
        self.host = host
        self.home = host.directory("clusters", name)
        self.data = self.home / "data"
        self.port = port
        self.cpu_record = self.home / "archive-cpu"
        self.environment = {"PGHOST": str(host.work), "PGPORT": str(port), "PGUSER": "postgres",
                            "PGDATABASE": "postgres", "PGDATA": str(self.data)}
        self.initialise()

    def initialise(self):
        self.host.run([POSTGRES_BIN / "initdb", "--username=postgres", "--auth=trust", "--data-checksums",
                       "--no-sync", f"--pgdata={self.data}"])
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as settings:
            settings.write(f"""
listen_addresses = ''
unix_socket_directories = '{self.host.work}'
port = {self.port}
fsync = off
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 1h
autovacuum = off
archive_mode = on
archive_command = 'exec {self.home}/{ARCHIVE_SCRIPT} %p %f'
""")
        self.archive_with("exit 0")

    def start(self):
        self.host.run([POSTGRES_BIN / "pg_ctl", "start", "--wait", f"--pgdata={self.data}",
                       f"--log={self.home}/server.log"])

    def stop(self):
        if (self.data / "postmaster.pid").exists():
            self.host.run([POSTGRES_BIN / "pg_ctl", "stop", "--mode=fast", f"--pgdata={self.data}"])

    def sql(self, *statements):
        commands = [f"--command={statement}" for statement in statements]
        return self.host.run([POSTGRES_BIN / "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
                              "--set=ON_ERROR_STOP=1", *commands], self.environment)

    def pgbench(self, scale):
        self.host.run([POSTGRES_BIN / "pgbench", "--initialize", "--quiet", f"--scale={scale}"], self.environment)

    def archive_with(self, line):
        """Replaces what archives: a line of shell, with the file's path as `$1` and its name as `$2`."""
        self.host.write(self.home / ARCHIVE_SCRIPT, f"#!/bin/sh\n{line}\n")

    def archive_as(self, contestant):
        """Archives with a contestant; the CPU seconds of that are kept for `take_archive_cpu`."""
        exports = "".join(f"export {name}='{value}'\n" for name, value in contestant.environment.items())
        command = " ".join(str(word) for word in contestant.push('"$1"'))
        # bash reports the times of the pipeline alone, not its own.
        self.host.write(self.home / ARCHIVE_SCRIPT,
                        f"#!/bin/bash\n{exports}TIMEFORMAT='%U %S'\n"
                        f"{{ time {command} 2>>{self.home}/archive.log; }} 2>>{self.cpu_record}\n")

    def take_archive_cpu(self):
        if not self.cpu_record.exists():
            return 0.0
        seconds = sum(float(word) for word in self.cpu_record.read_text(encoding="utf-8").split())
        self.cpu_record.unlink()
        return seconds

    def settle(self):
        """Ends the present segment, and waits until everything is written and archived."""
        self.sql("checkpoint", "select pg_switch_wal()")
        status, deadline = self.data / "pg_wal/archive_status", time.monotonic() + ARCHIVER_SECONDS
        while any(status.glob("*.ready")):
            if time.monotonic() > deadline:
                raise Failed(f"the archiver stands still, see: {self.archive_complaint()}")
            time.sleep(0.05)

    def archive_complaint(self):
        log = self.home / "archive.log"
        return log.read_text(encoding="utf-8", errors="replace")[-1000:] if log.exists() else "no message"

"""What the tools are asked to do, in their own words."""

import dataclasses
import json
import os

from benchmark.host import POSTGRES_BIN, remove

DEFAULTS = "defaults"
SAME_LEVEL = "zstd 3"
SECTIONS = (DEFAULTS, SAME_LEVEL)
WORKERS = os.cpu_count()


@dataclasses.dataclass(frozen=True)
class Variant:
    """A tool with settings; the settings are environment variables of walrs, options of pgbackrest."""

    tool: str
    section: str
    settings: dict = dataclasses.field(default_factory=dict, hash=False)
    note: str = ""

    @property
    def is_archiver(self):
        """Whether it keeps a repository of backups and WAL."""
        return self.tool in ("walrs", "pgbackrest")

    @property
    def name(self):
        return f"{self.tool} {self.note}".strip()

    @property
    def key(self):
        return f"{self.name}, {self.section}"


# What its manual recommends where speed matters.
TUNED = {"compress-type": "zst", "compress-level": 3, "process-max": WORKERS, "repo1-bundle": "y",
         "repo1-block": "y"}
WALRS = Variant("walrs", DEFAULTS)
WALRS_3 = Variant("walrs", SAME_LEVEL, {"WALRS_COMPRESSION_LEVEL": "3"})
PGBACKREST = Variant("pgbackrest", DEFAULTS)
PGBACKREST_3 = Variant("pgbackrest", SAME_LEVEL, TUNED)
PGBACKREST_ASYNC = Variant("pgbackrest", SAME_LEVEL, TUNED | {"archive-async": "y"}, "async")
# On S3 the settings are the same level: what compression does, the directory shows already, and pgbackrest's default
# takes minutes there.
EVERYWHERE = [WALRS_3, PGBACKREST_3]
ON_A_DIRECTORY = [WALRS, PGBACKREST, *EVERYWHERE]
BASEBACKUP = Variant("pg_basebackup", DEFAULTS)
BASEBACKUP_3 = Variant("pg_basebackup", SAME_LEVEL, {"compress": "client-zstd:3"})
COPY = Variant("cp", DEFAULTS)


def settings_for(store):
    """The variants of walrs and pgbackrest that take part in a store."""
    return ON_A_DIRECTORY if store == "directory" else EVERYWHERE


class Contestant:
    """A variant with a place to store in, and the cluster it works for."""

    def __init__(self, variant, host, place, home, data):
        self.variant = variant
        self.host = host
        self.place = place
        # Spool, locks, configuration.
        self.home = home
        self.data = data
        self.environment = {}
        self.spool = None
        # What rows remember: the name of a full backup, a directory restored from it.
        self.full_backup = None
        self.restored = None

    def shown(self, command):
        """The command as the report shows it: with the settings that make it what it is."""
        return command

    def run(self, command):
        return self.host.run(command, self.environment)

    def forget(self):
        """Empties the spool, with whatever it remembers of the repository."""
        if self.spool:
            remove(self.spool)
            self.host.directory(*self.spool.relative_to(self.host.work).parts)

    def remove(self):
        self.place.remove()
        remove(self.home)


class Walrs(Contestant):
    def __init__(self, *arguments, program, server):
        super().__init__(*arguments)
        self.program = program
        self.spool = self.host.directory(*self.home.relative_to(self.host.work).parts, "spool")
        self.environment = server | self.place.walrs | self.variant.settings | {
            "PGDATA": str(self.data), "WALRS_SPOOL": str(self.spool)}

    def shown(self, command):
        own = {name: value for name, value in self.environment.items() if name.startswith("WALRS_")}
        return [*(f"{name}={value}" for name, value in own.items()), *command]

    def prepare(self):
        self.run([self.program, "init"])

    def push(self, path):
        return [self.program, "wal-push", path]

    def fetch(self, name, destination):
        return [self.program, "wal-fetch", name, destination]

    def full(self):
        return [self.program, "backup-push", "--full"]

    def delta(self):
        return [self.program, "backup-push"]

    def last_backup(self):
        """Its name and its kind."""
        last = json.loads(self.run([self.program, "backup-list", "--json"]))[-1]
        return last["id"], last["kind"]

    def restore(self, destination, backup):
        return [self.program, "restore", destination, "--backup", backup, "--immediate"]

    def restore_in_place(self, destination, backup):
        # What was restored and never started has nothing of its own to archive, but does not look it.
        return [*self.restore(destination, backup), "--in-place", "--discard-unarchived-wal"]

    def version(self):
        return [self.program, "--version"]


class PgBackRest(Contestant):
    def __init__(self, *arguments, program, server, without):
        super().__init__(*arguments)
        self.spool = self.host.directory(*self.home.relative_to(self.host.work).parts, "spool")
        configuration = self.home / "pgbackrest.conf"
        self.host.write(configuration, self.configuration(server, without))
        self.program = program
        self.common = [program, f"--config={configuration}", "--stanza=bench"]

    def configuration(self, server, without):
        options = {
            "start-fast": "y", "repo1-retention-full": 9999999, "lock-path": self.home / "lock",
            "spool-path": self.spool, "log-level-console": "off", "log-level-stderr": "warn", "log-level-file": "off",
            "log-path": self.home,
        } | self.place.pgbackrest | self.variant.settings
        lines = [f"{name}={value}" for name, value in options.items() if name not in without]
        cluster = [f"pg1-path={self.data}", f"pg1-socket-path={self.host.work}",
                   f"pg1-port={server.get('PGPORT', 5432)}"]
        return "\n".join(["[global]", *lines, "", "[bench]", *cluster, ""])

    def shown(self, command):
        settings = " ".join(f"{name}={value}" for name, value in ({"start-fast": "y"} | self.variant.settings).items())
        return [f"#   {settings}\n", *command]

    def prepare(self):
        if "repo1-type" not in self.place.pgbackrest:
            self.host.directory(*self.place.path.relative_to(self.host.work).parts)
        self.run([*self.common, "--no-online", "stanza-create"])

    def push(self, path):
        return [*self.common, "archive-push", path]

    def fetch(self, name, destination):
        return [*self.common, "archive-get", name, destination]

    def full(self):
        return [*self.common, "--type=full", "backup"]

    def delta(self):
        return [*self.common, "--type=incr", "backup"]

    def last_backup(self):
        last = json.loads(self.run([*self.common, "--output=json", "info"]))[0]["backup"][-1]
        return last["label"], {"full": "full", "incr": "delta"}[last["type"]]

    def restore(self, destination, backup):
        return [*self.common, f"--pg1-path={destination}", f"--set={backup}", "--type=immediate", "restore"]

    def restore_in_place(self, destination, backup):
        return [*self.restore(destination, backup), "--delta"]

    def version(self):
        return [self.program, "version"]


class BaseBackup(Contestant):
    """Into a fresh directory each time; it archives nothing."""

    def prepare(self):
        remove(self.place.path)

    def full(self):
        target = ["--pgdata", self.place.path, "--checkpoint=fast"]
        tar = [f"--{name}={value}" for name, value in self.variant.settings.items()]
        return [POSTGRES_BIN / "pg_basebackup", *target, *(["--format=tar", *tar] if tar else [])]


class Copy(Contestant):
    """Without a sync at the end, and without any of the rest: what the bytes themselves take."""

    def prepare(self):
        remove(self.place.path)
        self.host.directory(*self.place.path.relative_to(self.host.work).parts)

    def push(self, path):
        return ["/usr/bin/cp", path, self.place.path]

    def fetch(self, name, destination):
        return ["/usr/bin/cp", self.place.path / name, destination]

    def restore(self, destination, backup):
        return ["/usr/bin/cp", "--archive", f"{backup}/.", destination]

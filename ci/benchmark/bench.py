"""One run: what all rows share, made when a row first asks for it, and gone at the end."""

import dataclasses
import functools
import re

from benchmark.cluster import Cluster
from benchmark.contestants import BaseBackup, Copy, PgBackRest, Walrs
from benchmark.data import SMALL_FILES, Large, Segments
from benchmark.host import Failed, Host
from benchmark.measure import Job
from benchmark.row import say
from benchmark.stores import S3Server, Stores

BACKLOG = 50
REPLAYED = 200
# Warm-up, rounds of single segments, and a few for what the fetches look ahead to.
SPARE_SEGMENTS = 12


class Bench:
    def __init__(self, options, programs, stack):
        self.options = options
        self.rounds = options.rounds
        self.share = options.share
        self.programs = programs
        self.stack = stack
        self.host = Host(options.directory)
        stack.callback(self.host.close)
        server = S3Server(self.host, programs.s3_server)
        stack.callback(server.close)
        self.stores = Stores(self.host, server)
        self.fixtures = {}
        self.places = 0
        self.replay_wanted = False

    def fixture(self, name, make):
        """What `make` returns, made once; once it has failed, it fails for everybody."""
        if name not in self.fixtures:
            say(f"preparing {name}")
            try:
                self.fixtures[name] = make()
            except Failed as failure:
                self.fixtures[name] = failure
        if isinstance(self.fixtures[name], Failed):
            raise self.fixtures[name]
        return self.fixtures[name]

    def cluster(self, name, port):
        cluster = Cluster(self.host, name, port)
        self.stack.callback(cluster.stop)
        return cluster

    def scaled(self, count):
        return max(4, round(count * self.share))

    @property
    def backlog(self):
        return self.scaled(BACKLOG)

    def sizes(self):
        """What stands in the titles of the rows."""
        segments, large = self.fixtures.get("segments"), self.fixtures.get("tables")
        return {
            "backlog": self.backlog,
            "replayed": len(segments.names) if isinstance(segments, Segments) else self.scaled(REPLAYED),
            "tables": f"{large.bytes / 2**20:.0f} MiB of tables" if isinstance(large, Large) else "tables",
            "small_files": f"{round(SMALL_FILES * self.share):,}",
        }

    def segments(self):
        """Segments for all rows about WAL, as many as the selected ones need."""
        need = max(self.backlog, self.rounds) + SPARE_SEGMENTS
        if self.replay_wanted:
            need = max(need, self.scaled(REPLAYED))
        return self.fixture("segments", lambda: Segments(self.host, self.cluster("wal", 5434), need))

    def large(self):
        return self.fixture("tables", lambda: Large(self.cluster("large", 5432), self.share))

    def contestant(self, variant, store, name, data, server=None):
        """A contestant with an empty repository of its own, prepared. `server`: how it reaches its cluster."""
        label = re.sub("[^a-z0-9]+", "-", f"{name} {variant.key}")
        home = self.host.directory("homes", f"{label}-{store.name}")
        # Short: s3s-fs makes file names of whole object names, and a file name ends at 255 bytes.
        self.places += 1
        arguments = (variant, self.host, store.place(f"r{self.places}"), home, data)
        contestant = self.enter(arguments, variant.tool, server or {})
        contestant.prepare()
        return contestant

    def through(self, contestant, store, data):
        """Another view of the same repository: from a store that holds it too, for another data directory."""
        place = store.place(contestant.place.path.name)
        home = self.host.directory("homes", f"{contestant.home.name}-through-{store.name}-{data.name}")
        return self.enter((contestant.variant, self.host, place, home, data), contestant.variant.tool, {})

    def enter(self, arguments, tool, server):
        if tool == "walrs":
            return Walrs(*arguments, program=self.host.adopt(self.programs.walrs), server=server)
        if tool == "pgbackrest":
            return PgBackRest(*arguments, program=self.host.adopt(self.programs.pgbackrest), server=server,
                              without=() if self.programs.pgbackrest_stores_blocks else ("repo1-block",))
        contestant = (Copy if tool == "cp" else BaseBackup)(*arguments)
        contestant.environment = dict(server)
        return contestant


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A variant that makes its repository anew in each turn."""

    variant: object

    def remove(self):
        """There is nothing between the turns."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """A contestant that outlives the row."""

    contestant: object

    def remove(self):
        """Another row goes on with it."""


def compete(bench, row, variants, enter, turns, before=lambda number: None):
    """Contestants enter, take their turns, and leave.

    `enter` makes of a variant what its turns get, besides the number of the round; `turns` are by suffix of the key.
    """
    entries, entered = [], []
    try:
        for variant in variants:
            try:
                entered.append(contestant := enter(variant))
            except Failed as failure:
                for suffix in turns:
                    row.result(variant, suffix).failure = str(failure)
                continue
            for suffix, turn in turns.items():
                entries.append((variant, suffix, functools.partial(turn, contestant)))
        row.take_turns(entries, bench.rounds, before)
    finally:
        for contestant in entered:
            contestant.remove()


def measure(bench, row, contestant, directory, steps, suffix="", **options):
    """What the steps cost, and what they add to the contestant's repository."""
    timed = [step.command for step in steps if step.timed]
    row.note_command(row.result(contestant.variant, suffix), contestant.shown(timed[0]), bench.host.work)
    before = contestant.place.usage()
    measurement = Job(directory, contestant.environment, steps, **options).measure(bench.host)
    after = contestant.place.usage()
    return dataclasses.replace(measurement, stored_bytes=after[0] - before[0], objects=after[1] - before[1])

"""Rows about backups of running servers."""

import dataclasses
import time

from benchmark.bench import Entrant, Kept, compete, measure
from benchmark.contestants import (BASEBACKUP, BASEBACKUP_3, COPY, ON_A_DIRECTORY, PGBACKREST_3, WALRS_3, settings_for)
from benchmark.data import fill_small_files, fill_to_a_thousand_files
from benchmark.host import Failed, remove
from benchmark.measure import Step
from benchmark.row import Row
from benchmark.stores import Stores

GROUP = "Backup"
# File by file (pgbackrest's default) or with a sync for each at the end (pg_basebackup), it takes many minutes.
SMALL_FILES = [WALRS_3, PGBACKREST_3]
# A file that changed less than 2 s before a backup is read again by the next one. Nobody takes backups that often, and
# nobody shall pay for it here.
REST_SECONDS = 3.0


def rows():
    found = []
    for store in Stores.names():
        found += [
            Row("backup-full", store, GROUP, "Full backup of {tables}", full),
            Row("delta-clustered", store, GROUP, "Delta after 1 % of the rows changed, side by side", clustered),
            Row("delta-scattered", store, GROUP, "Delta after 1 % of the rows changed, scattered", scattered),
            Row("delta-unchanged", store, GROUP, "Delta after nothing changed", unchanged),
        ]
    return [
        *found,
        Row("delta-unchanged-1000-files", "directory", GROUP, "Delta after nothing changed, 1000 files", small_cluster),
        Row("backup-small-files", "directory", GROUP, "Full backup with {small_files} small files", small_files),
    ]


class Repositories:
    """One repository per store and variant of the large cluster; all rows about it go on where the last one ended."""

    def __init__(self, bench, cluster, name):
        self.bench = bench
        self.cluster = cluster
        self.name = name
        self.contestants = {}

    def renew(self, store, variant):
        """An empty one."""
        self.drop(store, variant)
        contestant = self.bench.contestant(variant, store, f"{self.name}-{store.name}", self.cluster.data,
                                           self.cluster.environment)
        self.contestants[store.name, variant] = contestant
        return contestant

    def with_full(self, store, variant):
        """One that holds a full backup at least."""
        return self.contestants.get((store.name, variant)) or self.with_fresh_full(store, variant)

    def with_fresh_full(self, store, variant):
        """One that holds a full backup and nothing else."""
        contestant = self.renew(store, variant)
        try:
            archive(self.cluster, contestant)
            contestant.run(contestant.full())
            contestant.full_backup = contestant.last_backup()[0]
        except Failed:
            self.drop(store, variant)
            raise
        return contestant

    def drop(self, store, variant):
        if old := self.contestants.pop((store.name, variant), None):
            old.remove()


def repositories(bench):
    large = bench.large()
    return bench.fixture("repositories", lambda: Repositories(bench, large.cluster, "tables"))


def archive(cluster, contestant):
    """WAL that a former turn left over is not this contestant's work."""
    if contestant.variant.is_archiver:
        cluster.archive_as(contestant)
    else:
        cluster.archive_with("exit 0")
    cluster.settle()
    cluster.take_archive_cpu()


def backup(bench, row, cluster, contestant, command):
    """One backup, with the work of the processes that the server starts to archive its WAL."""
    archive(cluster, contestant)
    measured = measure(bench, row, contestant, bench.host.work, [Step(command)])
    return dataclasses.replace(measured, cpu_seconds=measured.cpu_seconds + cluster.take_archive_cpu())


def full(bench, row):
    """Each turn into a new repository; the last one serves the rows after this."""
    found, store = repositories(bench), bench.stores[row.store]
    variants = [*settings_for(row.store), *([BASEBACKUP, BASEBACKUP_3, COPY] if row.store == "directory" else [])]

    def turn(entrant, _):
        contestant = found.renew(store, entrant.variant)
        try:
            measured = backup(bench, row, found.cluster, contestant, whole(contestant, found.cluster))
            if entrant.variant.is_archiver:
                contestant.full_backup = contestant.last_backup()[0]
            else:
                found.drop(store, entrant.variant)
            return measured
        except Failed:
            found.drop(store, entrant.variant)
            raise

    compete(bench, row, variants, Entrant, {"": turn})


def whole(contestant, cluster):
    if contestant.variant is COPY:
        return ["/usr/bin/cp", "--archive", cluster.data, contestant.place.path]
    return contestant.full()


def clustered(bench, row):
    delta(bench, row, bench.large().touch_clustered)


def scattered(bench, row):
    delta(bench, row, bench.large().touch_scattered)


def unchanged(bench, row):
    delta(bench, row, lambda: None)


def delta(bench, row, touch):
    """All back up the same change. Before the first round each takes a delta of what other rows have changed."""
    found, store = repositories(bench), bench.stores[row.store]

    def enter(variant):
        contestant = found.with_full(store, variant)
        archive(found.cluster, contestant)
        contestant.run(contestant.delta())
        return Kept(contestant)

    def turn(kept, _):
        return delta_backup(bench, row, found.cluster, kept.contestant)

    def change(_):
        found.cluster.archive_with("exit 0")
        touch()
        time.sleep(REST_SECONDS)

    found.cluster.sql("checkpoint")
    time.sleep(REST_SECONDS)
    compete(bench, row, settings_for(row.store), enter, {"": turn}, change)


def delta_backup(bench, row, cluster, contestant):
    measured = backup(bench, row, cluster, contestant, contestant.delta())
    name, kind = contestant.last_backup()
    if kind != "delta":
        raise Failed(f"backup `{name}` is no delta but of kind `{kind}`")
    return measured


def small_cluster(bench, row):
    """A cluster of its own, as initdb makes it, and small tables up to a thousand files."""
    cluster = bench.cluster("thousand", 5435)
    cluster.start()
    fill_to_a_thousand_files(cluster)
    found, store = Repositories(bench, cluster, "thousand"), bench.stores[row.store]
    time.sleep(REST_SECONDS)
    compete(bench, row, ON_A_DIRECTORY, lambda variant: Kept(found.with_full(store, variant)),
            {"": lambda kept, _: delta_backup(bench, row, cluster, kept.contestant)},
            lambda _: time.sleep(REST_SECONDS))
    for variant in ON_A_DIRECTORY:
        found.drop(store, variant)
    cluster.stop()


def small_files(bench, row):
    """A cluster of its own with a directory of small files."""
    cluster = bench.cluster("small-files", 5436)
    bench.fixture("small files", lambda: fill_small_files(bench.host, cluster, bench.share))
    cluster.start()

    def turn(entrant, _):
        contestant = bench.contestant(entrant.variant, bench.stores[row.store], row.name, cluster.data,
                                      cluster.environment)
        try:
            return backup(bench, row, cluster, contestant, contestant.full())
        finally:
            contestant.remove()

    try:
        compete(bench, row, SMALL_FILES, Entrant, {"": turn})
    finally:
        cluster.stop()
        remove(cluster.home)

"""Rows about WAL: one process per segment, in order, as the server starts them.

A backlog is drained by a loop that does what the server's archiver does (the next file's command, then `.ready` becomes
`.done`), and not by the archiver itself: its pauses are long and its own. In the same way fetches are moved from
`RECOVERYXLOG` to their names. The process that runs the loop passes for the server in `postmaster.pid`.
"""

import dataclasses

from benchmark.bench import Entrant, Kept, compete, measure
from benchmark.contestants import COPY, ON_A_DIRECTORY, PGBACKREST_ASYNC, WALRS, settings_for
from benchmark.measure import Job, Step
from benchmark.row import Row
from benchmark.stores import Stores

GROUP = "WAL"
RECEIVED = "pg_wal/RECOVERYXLOG"
REST_SECONDS = 1.0
# Waits until the spool holds a segment, ten seconds at most.
FILLED = """
for attempt in $(seq 100); do
    find "$1" -name "*$2*" ! -name "*.part" | grep -q . && exit 0
    sleep 0.1
done
echo "the spool does not hold $2, but:" >&2
find "$1" >&2
exit 1
"""
# Segments after the last one asked for, to look ahead to: more than any window.
AHEAD = 10


def rows():
    found = []
    for store in Stores.names():
        found += [
            Row("wal-push-one", store, GROUP, "Archive one segment", push_one),
            Row("wal-push-again", store, GROUP, "Archive the same segment again", push_again),
            Row("wal-backlog", store, GROUP, "Archive a backlog of {backlog} segments", push_backlog),
            Row("wal-fetch", store, GROUP, "Fetch {backlog} segments in a row", fetch_in_a_row),
            Row("spool-hit", store, GROUP, "Fetch one segment that is in the spool", hit),
        ]
    return found


def one_by_one(row):
    """A single segment is quick: all settings in every store."""
    return [*ON_A_DIRECTORY, *([COPY] if row.store == "directory" else [])]


def lined_up(row):
    return [*settings_for(row.store), PGBACKREST_ASYNC, *([COPY] if row.store == "directory" else [])]


def segment(name):
    return f"pg_wal/{name}"


def push_one(bench, row):
    """Each round another segment, the same for all; one was archived before, so that nobody meets the store anew."""
    segments = bench.segments()
    data = segments.data_directory(row.full_name)

    def enter(variant):
        return primed(bench, row, variant, segments, data)

    def turn(contestant, number):
        return measure(bench, row, contestant, data, [Step(contestant.push(segment(segments.names[number + 1])))])

    compete(bench, row, one_by_one(row), enter, {"": turn},
            lambda number: segments.offer(data, [segments.names[number + 1]]))


def push_again(bench, row):
    """The same segment, right after it was archived."""
    segments = bench.segments()
    data = segments.data_directory(row.full_name)

    def enter(variant):
        return primed(bench, row, variant, segments, data)

    def turn(contestant, number):
        push = Step(contestant.push(segment(segments.names[number + 1])))
        Job(data, contestant.environment, [push]).measure(bench.host)
        return measure(bench, row, contestant, data, [push])

    compete(bench, row, ON_A_DIRECTORY, enter, {"": turn},
            lambda number: segments.offer(data, [segments.names[number + 1]]))


def push_backlog(bench, row):
    """Each round into a new repository that holds one segment already."""
    segments = bench.segments()
    data = segments.data_directory(row.full_name)
    names = segments.names[1:bench.backlog + 1]

    def turn(entrant, _):
        contestant = primed(bench, row, entrant.variant, segments, data)
        try:
            segments.offer(data, names)
            steps = [Step(contestant.push(segment(name)), move=acknowledgement(data, name)) for name in names]
            return measure(bench, row, contestant, data, steps)
        finally:
            contestant.remove()

    compete(bench, row, lined_up(row), Entrant, {"": turn})


def acknowledgement(data, name):
    status = data / "pg_wal/archive_status"
    return status / f"{name}.ready", status / f"{name}.done"


def primed(bench, row, variant, segments, data):
    """A contestant whose repository holds the first segment."""
    contestant = bench.contestant(variant, bench.stores[row.store], row.full_name, data)
    segments.offer(data, segments.names[:1])
    Job(data, contestant.environment, [Step(contestant.push(segment(segments.names[0])))]).measure(bench.host)
    return contestant


def fetch_in_a_row(bench, row):
    """As a restored server asks, from an empty spool; the repository goes on after the last segment asked."""
    segments = bench.segments()
    names = segments.names[:bench.backlog]

    def turn(kept, _):
        contestant = kept.contestant
        contestant.forget()
        data = recovering(segments, row)
        steps = [fetch(contestant, data, name) for name in names]
        return without_storage(measure(bench, row, contestant, data, steps, postmaster=data))

    enter = entering(bench, row, bench.backlog + AHEAD)
    compete(bench, row, lined_up(row), enter, {"": turn})


def hit(bench, row):
    """The fetch alone. A first one lets the spool fill, and whoever fills it has a second to come to rest."""
    segments = bench.segments()
    first, second = segments.names[:2]

    def turn(kept, _):
        contestant = kept.contestant
        contestant.forget()
        data = recovering(segments, row)
        steps = [
            dataclasses.replace(fetch(contestant, data, first), timed=False),
            Step(["/bin/sh", "-c", FILLED, "sh", contestant.spool, second], timed=False, pause_seconds=REST_SECONDS),
            fetch(contestant, data, second),
        ]
        return without_storage(
            measure(bench, row, contestant, data, steps, postmaster=data, helpers="ignored"))

    enter = entering(bench, row, bench.backlog + AHEAD)
    compete(bench, row, [WALRS, PGBACKREST_ASYNC], enter, {"": turn})


class Archives:
    """Repositories full of WAL, one per variant and place; all rows that fetch share them."""

    def __init__(self, bench):
        self.bench = bench
        self.segments = bench.segments()
        self.contestants = {}
        self.archived = {}

    def filled(self, store, variant, count):
        """One that holds so many segments from the first one on. They come over the link without latency."""
        fast = self.bench.stores["directory" if store == "directory" else "s3"]
        key = fast.name, variant
        if key not in self.contestants:
            data = self.segments.data_directory("archives")
            self.contestants[key] = self.bench.contestant(variant, fast, f"archives-{fast.name}", data)
        self.fill(key, count)
        return self.contestants[key]

    def fill(self, key, count):
        contestant, done = self.contestants[key], self.archived.get(key, 0)
        names = self.segments.names[done:count]
        self.segments.offer(contestant.data, names)
        steps = [Step(contestant.push(segment(name)), move=acknowledgement(contestant.data, name)) for name in names]
        Job(contestant.data, contestant.environment, steps).measure(self.bench.host)
        self.archived[key] = max(done, count)


    def reader(self, store, variant, count, data):
        """A contestant that fetches into a data directory.

        It has fetched once, over the same link, and so knows its repository as after a restore of this directory.
        """
        full = self.filled(store, variant, count)
        contestant = self.bench.through(full, self.bench.stores[store], data)
        first = fetch(contestant, data, self.segments.names[0])
        Job(data, contestant.environment, [first]).measure(self.bench.host)
        return contestant


def archives(bench):
    return bench.fixture("archives", lambda: Archives(bench))


def entering(bench, row, count):
    """How a contestant enters that fetches from a full repository."""
    data = recovering(bench.segments(), row)
    return lambda variant: Kept(archives(bench).reader(row.store, variant, count, data))


def recovering(segments, row):
    data = segments.data_directory(row.full_name)
    signal = data / "recovery.signal"
    signal.touch()
    segments.host.own(signal)
    return data


def fetch(contestant, data, name):
    return Step(contestant.fetch(name, RECEIVED), move=(data / RECEIVED, data / segment(name)))


def without_storage(measurement):
    return dataclasses.replace(measurement, stored_bytes=None, objects=None)

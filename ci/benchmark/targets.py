"""What walrs promises in this benchmark, and whether it keeps it."""

import dataclasses

from benchmark.contestants import SECTIONS
from benchmark.stores import LATENCY_MS

UNITS = {"wall_seconds": "wall", "cpu_seconds": "CPU", "largest_mib": "memory", "stored_bytes": "stored"}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A target as measured. `value` is None where there is nothing to measure it by."""

    row: str
    key: str
    promise: str
    found: str
    met: bool | None

    @property
    def outcome(self):
        return {True: "met", False: "**missed**", None: "not measured"}[self.met]

    @property
    def text(self):
        return f"{self.promise}: {self.found} {self.outcome}".replace("  ", " ")


@dataclasses.dataclass(frozen=True)
class AgainstRival:
    """At most so many times what the best pgbackrest of the same section takes, in every store."""

    row: str
    metric: str
    limit: float

    def verdicts(self, rows):
        return [self.verdict(row, section) for row in rows if row.name == self.row for section in SECTIONS
                if any(one.section == section and one.tool == "pgbackrest" for one in row.outcomes)]

    def verdict(self, row, section):
        rivals = [getattr(one.median, self.metric) for one in row.outcomes
                  if one.section == section and one.tool == "pgbackrest" and one.median]
        key = f"walrs, {section}"
        promise = f"{UNITS[self.metric]} ≤ {self.limit:g}× pgbackrest"
        own = value(row.outcome(key), self.metric)
        if own is None or not rivals or min(rivals) <= 0:
            return Verdict(row.full_name, key, promise, "", None)
        ratio = own / min(rivals)
        return Verdict(row.full_name, key, promise, f"{ratio:.2f}×", ratio <= self.limit)


@dataclasses.dataclass(frozen=True)
class AtMost:
    """A figure of walrs that stands for itself, in every store and section."""

    row: str
    metric: str
    limit: float
    shown: str

    def verdicts(self, rows):
        return [self.verdict(row, one) for row in rows if row.name == self.row for one in row.outcomes
                if one.tool == "walrs"]

    def verdict(self, row, outcome):
        promise = f"{UNITS[self.metric]} ≤ {self.shown}"
        own = value(outcome, self.metric)
        if own is None:
            return Verdict(row.full_name, outcome.key, promise, "", None)
        return Verdict(row.full_name, outcome.key, promise, shown(self.metric, own), own <= self.limit)


@dataclasses.dataclass(frozen=True)
class Between:
    """At most so many times the wall time of another contestant, or of the same one in another row."""

    row: str
    key: str
    other_row: str
    other_key: str
    limit: float
    shown: str

    def verdicts(self, rows):
        found = {row.full_name: row for row in rows}
        if self.row not in found:
            return []
        own = value(found[self.row].outcome(self.key), "wall_seconds")
        other_row = found.get(self.other_row)
        other = value(other_row.outcome(self.other_key), "wall_seconds") if other_row else None
        promise = f"wall ≤ {self.limit:g}× {self.shown}"
        if own is None or not other:
            return [Verdict(self.row, self.key, promise, "", None)]
        return [Verdict(self.row, self.key, promise, f"{own / other:.2f}×", own / other <= self.limit)]


def value(outcome, metric):
    return getattr(outcome.median, metric) if outcome and outcome.median else None


def shown(metric, own):
    if metric == "stored_bytes":
        return f"{own / 1000:.0f} kB"
    return f"{own:.1f} MiB" if metric == "largest_mib" else f"{own * 1000:.1f} ms"


REMOTE = f"s3-{LATENCY_MS}ms"
TARGETS = [
    AgainstRival("wal-push-one", "wall_seconds", 0.4),
    AtMost("wal-push-one", "largest_mib", 64, "64 MiB"),
    AgainstRival("wal-backlog", "wall_seconds", 0.3),
    AtMost("wal-backlog", "largest_mib", 64, "64 MiB"),
    Between(f"wal-backlog@{REMOTE}", "walrs, zstd 3", "wal-backlog@s3", "walrs, zstd 3", 1.3, "S3 without latency"),
    AgainstRival("wal-fetch", "wall_seconds", 0.2),
    AtMost("spool-hit", "cpu_seconds", 0.005, "5 ms"),
    AtMost("spool-hit", "largest_mib", 12, "12 MiB"),
    AtMost("process-start", "cpu_seconds", 0.005, "5 ms"),
    Between(f"recovery@{REMOTE}", f"walrs from S3, {LATENCY_MS} ms, defaults", f"recovery@{REMOTE}",
            "walrs from a directory, defaults", 1.2, "from a directory"),
    AgainstRival("backup-full", "wall_seconds", 0.6),
    AgainstRival("backup-full", "cpu_seconds", 1.0),
    AgainstRival("delta-clustered", "wall_seconds", 0.5),
    AgainstRival("delta-scattered", "stored_bytes", 0.7),
    AtMost("delta-unchanged-1000-files", "wall_seconds", 0.3, "0.3 s"),
    AtMost("delta-unchanged-1000-files", "stored_bytes", 100_000, "100 kB"),
    AgainstRival("restore-full", "wall_seconds", 0.7),
    Between("restore-8th-delta@directory", "walrs, defaults, 8th delta", "restore-8th-delta@directory",
            "walrs, defaults, full", 1.2, "the full"),
    AgainstRival("restore-in-place", "wall_seconds", 0.8),
]


def judge(rows):
    """All verdicts about these rows, in the order of the targets."""
    return [verdict for target in TARGETS for verdict in target.verdicts(rows)]

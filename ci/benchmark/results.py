"""Rows as plain data: what the report is written from, and what is kept for the next one."""

import dataclasses
import json

from benchmark.measure import Measurement


@dataclasses.dataclass
class Outcome:
    """One contestant of a row."""

    key: str
    section: str
    tool: str
    command: str
    failure: str
    turns: list

    @property
    def median(self):
        return Measurement.median(self.turns) if self.turns and not self.failure else None


@dataclasses.dataclass
class Described:
    """A row that was run."""

    name: str
    store: str
    group: str
    title: str
    failure: str
    seconds: float
    # When, and of what.
    date: str
    commit: str
    outcomes: list

    @property
    def full_name(self):
        return f"{self.name}@{self.store}"

    def outcome(self, key):
        return next((one for one in self.outcomes if one.key == key), None)


def describe(row, bench, facts):
    outcomes = [Outcome(one.key, one.section, one.tool, one.command, one.failure, one.turns)
                for one in row.results.values()]
    return Described(row.name, row.store, row.group, row.title.format(**bench.sizes()), row.failure,
                     round(row.seconds, 1), facts["date"], facts["commit"], outcomes)


def path_of(options):
    return options.output / "benchmarks/results.json"


def merge(options, rows, described):
    """In the order of the rows; what was not run comes from the last report when that is asked for."""
    found = {one.full_name: one for one in (load(options) if options.keep else [])}
    found |= {one.full_name: one for one in described}
    merged = [found[row.full_name] for row in rows if row.full_name in found]
    store(options, merged)
    return merged


def load(options):
    path = path_of(options)
    if not path.exists():
        return []
    return [revive(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def revive(entry):
    outcomes = [Outcome(**(one | {"turns": [Measurement(**turn) for turn in one["turns"]]}))
                for one in entry["outcomes"]]
    return Described(**(entry | {"outcomes": outcomes}))


def store(options, described):
    path = path_of(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [dataclasses.asdict(one) for one in described]
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")

"""A row of the report: one thing to do, and contestants that take turns at it."""

import dataclasses
import fnmatch
import sys
import traceback

from benchmark.host import Failed
from benchmark.measure import Measurement


@dataclasses.dataclass
class Result:
    """The turns of one contestant, or why there are none."""

    key: str
    section: str
    tool: str
    turns: list = dataclasses.field(default_factory=list)
    failure: str = ""
    command: str = ""

    @property
    def median(self):
        return Measurement.median(self.turns) if self.turns and not self.failure else None


@dataclasses.dataclass
class Row:
    """What is measured, in one store; `run` fills in the results."""

    name: str
    store: str
    group: str
    title: str
    # Called with the bench and the row.
    measure: callable = None
    results: dict = dataclasses.field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0

    @property
    def full_name(self):
        return f"{self.name}@{self.store}"

    def matches(self, patterns):
        return any(fnmatch.fnmatch(self.full_name, pattern) or fnmatch.fnmatch(self.name, pattern)
                   for pattern in patterns)

    @property
    def failures(self):
        failed = [f"{result.key}: {result.failure}" for result in self.results.values() if result.failure]
        return ([self.failure] if self.failure else []) + failed

    def run(self, bench):
        """Measures; whatever goes wrong is this row's affair."""
        try:
            self.measure(bench, self)
        except Failed as failure:
            self.failure = str(failure)
        except Exception as fault:  # a fault of this script must not cost the other rows
            traceback.print_exc()
            self.failure = f"{type(fault).__name__}: {fault}"
        for message in self.failures:
            say(f"FAILED {self.full_name}: {message}")

    def result(self, variant, suffix=""):
        key = variant.key + suffix
        return self.results.setdefault(key, Result(key, variant.section, variant.tool))

    def note_command(self, result, command, work):
        words = " ".join(str(word) for word in command).replace("\n ", "\n")
        result.command = words.replace(str(work), "$WORK")

    def take_turns(self, entries, rounds, before=lambda number: None):
        """Rounds of turns. An entry is (variant, suffix, turn); a turn takes the number of the round, and measures.

        Who begins a round changes, so that nobody always comes first. A contestant that fails is out.
        """
        entries = list(entries)
        for number in range(rounds):
            before(number)
            shift = number % len(entries)
            for variant, suffix, turn in entries[shift:] + entries[:shift]:
                result = self.result(variant, suffix)
                if result.failure:
                    continue
                try:
                    measurement = turn(number)
                except Failed as failure:
                    result.failure = str(failure)
                    continue
                result.turns.append(measurement)
                say(f"  {self.full_name} {number + 1}/{rounds} {result.key}: {brief(measurement)}")


def brief(measurement):
    parts = [f"{measurement.wall_seconds:.3f} s"]
    if measurement.cpu_seconds is not None:
        parts.append(f"{measurement.cpu_seconds:.3f} CPU s")
    if measurement.largest_mib is not None:
        parts.append(f"{measurement.largest_mib:.0f} MiB")
    if measurement.stored_bytes is not None:
        parts.append(f"{measurement.stored_bytes / 1e6:.2f} MB in {measurement.objects} objects")
    return ", ".join(parts)


def say(message):
    print(message, file=sys.stderr, flush=True)

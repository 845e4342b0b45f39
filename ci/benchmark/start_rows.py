"""What it costs to start a process that does nothing."""

import dataclasses

from benchmark.bench import compete
from benchmark.contestants import DEFAULTS, Variant
from benchmark.measure import Job, Step
from benchmark.row import Row

REPEATS = 20


def rows():
    return [Row("process-start", "directory", "WAL", "Start a process and print the version", start)]


@dataclasses.dataclass(frozen=True)
class Starter:
    variant: Variant
    command: list

    def remove(self):
        """There is nothing."""


def start(bench, row):
    """Means of 20 starts in a row. `true` is what the instrument sees of a process that has nothing to do."""
    host, programs = bench.host, bench.programs
    commands = {
        "walrs": [host.adopt(programs.walrs), "--version"],
        "pgbackrest": [host.adopt(programs.pgbackrest), "version"],
        "true": ["/bin/true"],
    }

    def turn(starter, _):
        row.note_command(row.result(starter.variant), starter.command, host.work)
        measured = Job(host.work, {}, [Step(starter.command)] * REPEATS).measure(host)
        return dataclasses.replace(measured, wall_seconds=measured.wall_seconds / REPEATS,
                                   cpu_seconds=measured.cpu_seconds / REPEATS)

    variants = [Variant(name, DEFAULTS) for name in commands]
    compete(bench, row, variants, lambda variant: Starter(variant, commands[variant.tool]), {"": turn})

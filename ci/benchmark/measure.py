"""Measurements, and the jobs that they come from."""

import dataclasses
import json
import os
import pathlib
import statistics

from benchmark.host import Failed

METER = pathlib.Path(__file__).with_name("meter.py")
# Longer than any helper of a contestant waits for more work.
PATIENCE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one turn of one contestant cost. None: not measured, or without meaning."""

    wall_seconds: float
    cpu_seconds: float | None = None
    largest_mib: float | None = None
    together_mib: float | None = None
    stored_bytes: int | None = None
    objects: int | None = None

    @staticmethod
    def median(measurements):
        """Medians of all, but the most memory that was ever seen."""
        values = {}
        for field in dataclasses.fields(Measurement):
            found = [getattr(one, field.name) for one in measurements]
            found = [value for value in found if value is not None]
            middle = max if field.name.endswith("_mib") else statistics.median
            values[field.name] = middle(found) if found else None
        return Measurement(**values)


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of a job; what is not timed prepares what is."""

    command: list
    timed: bool = True
    # Renamed after it, as the server does.
    move: tuple | None = None
    pause_seconds: float = 0.0

    def as_json(self):
        move = [str(path) for path in self.move] if self.move else None
        command = [str(word) for word in self.command]
        return {"command": command, "timed": self.timed, "move": move, "pause": self.pause_seconds}


@dataclasses.dataclass(frozen=True)
class Job:
    """Steps that run one after another in a directory."""

    directory: pathlib.Path
    environment: dict
    steps: list
    # A data directory whose server the steps' parent passes for.
    postmaster: pathlib.Path | None = None
    helpers: str = "counted"
    patience_seconds: float = PATIENCE_SECONDS

    def measure(self, host):
        """The cost of the job. What others have written is on the disk before it begins."""
        os.sync()
        text = json.dumps({
            "directory": str(self.directory),
            "environment": host.environment | self.environment,
            "postmaster": str(self.postmaster) if self.postmaster else None,
            "steps": [step.as_json() for step in self.steps],
            "patience": self.patience_seconds,
            "helpers": self.helpers,
        })
        # Without site packages: the smaller the instrument, the less of it is seen.
        result = json.loads(host.run(["python3", "-I", "-S", host.adopt(METER)], content=text))
        if "failure" in result:
            raise Failed(result["failure"])
        return Measurement(result["wall"], result["cpu"], result["largest_mib"], result["together_mib"])

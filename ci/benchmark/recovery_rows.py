"""A row about replay: whether the server waits for its WAL."""

import dataclasses

from benchmark.bench import Kept, compete
from benchmark.contestants import COPY, PGBACKREST_ASYNC, WALRS, Variant
from benchmark.host import POSTGRES_BIN, Failed
from benchmark.measure import Job, Step
from benchmark.row import Row
from benchmark.stores import LATENCY_MS
from benchmark.wal_rows import archives

GROUP = "Recovery"
PORT = 5437
REACHED = "recovery stopping at restore point"
LOCAL, REMOTE = "directory", f"s3-{LATENCY_MS}ms"


@dataclasses.dataclass(frozen=True)
class Replay:
    """A contestant under a name of its own: the same tool takes part with two stores."""

    variant: Variant
    store: str

    @property
    def shown(self):
        return dataclasses.replace(self.variant, note=f"{self.variant.note} {NAMES[self.store]}".strip())


NAMES = {LOCAL: "from a directory", REMOTE: f"from S3, {LATENCY_MS} ms"}
REPLAYS = [Replay(WALRS, LOCAL), Replay(WALRS, REMOTE), Replay(PGBACKREST_ASYNC, REMOTE), Replay(COPY, LOCAL)]


def rows():
    return [Row("recovery", REMOTE, GROUP, "Recovery that replays {replayed} segments", recovery)]


def recovery(bench, row):
    """From the start of the server until it has shut down at the restore point; CPU seconds include the server's."""
    segments, host = bench.segments(), bench.host
    data = segments.data_directory(row.full_name)
    replays = {replay.shown: replay for replay in REPLAYS}

    def enter(shown):
        replay = replays[shown]
        contestant = archives(bench).reader(replay.store, replay.variant, len(segments.names), data)
        row.note_command(row.result(shown), contestant.shown(contestant.fetch("%f", "%p")), host.work)
        return Kept(contestant)

    def turn(kept, _):
        contestant = kept.contestant
        contestant.forget()
        segments.data_directory(row.full_name)
        settings(segments, data, contestant)
        measured = Job(data, contestant.environment, [Step([POSTGRES_BIN / "postgres", "-D", data])]).measure(host)
        if REACHED not in (log := read_log(data)):
            raise Failed(f"the recovery does not reach its target: {log[-1000:]}")
        return dataclasses.replace(measured, largest_mib=None, together_mib=None)

    compete(bench, row, list(replays), enter, {"": turn})


def settings(segments, data, contestant):
    command = " ".join(str(word) for word in contestant.fetch("%f", "%p"))
    with open(data / "postgresql.auto.conf", "a", encoding="utf-8") as file:
        file.write(f"""
restore_command = '{command}'
recovery_target_name = '{segments.target}'
recovery_target_action = 'shutdown'
archive_mode = off
port = {PORT}
logging_collector = on
log_directory = 'log'
""")
    (data / "recovery.signal").touch()
    segments.host.own(data / "recovery.signal")


def read_log(data):
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(data.glob("log/*")))

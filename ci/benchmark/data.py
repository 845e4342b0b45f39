"""What is in the clusters, and how it changes."""

from benchmark.host import remove, usage_of

PGBENCH_SCALE = 26
WIDE_ROWS = 3_325_000
ACCOUNTS_PER_SCALE = 100_000
SMALL_FILES = 300_000
SMALL_CLUSTER_FILES = 1000
SEGMENT_BYTES = 16 * 2**20


class Large:
    """700 MB: pgbench rows, which compress well, and a table of md5, uuid and random columns, which does not."""

    def __init__(self, cluster, share):
        self.cluster = cluster
        self.scale = max(1, round(PGBENCH_SCALE * share))
        self.clustered_percent = 0
        self.scattered_rest = 0
        cluster.start()
        cluster.pgbench(self.scale)
        cluster.sql(
            "select setseed(0.42)",
            f"create table wide as {wide_rows(round(WIDE_ROWS * share))}",
            "vacuum (freeze, analyze) wide", "checkpoint")
        self.bytes = usage_of(cluster.data / "base")[0]

    def touch_clustered(self):
        """1 % of the rows of pgbench_accounts, one beside the other; another percent each time."""
        rows = self.scale * ACCOUNTS_PER_SCALE // 100
        first = 1 + rows * self.clustered_percent
        self.clustered_percent = (self.clustered_percent + 1) % 100
        self.touch(f"aid between {first} and {first + rows - 1}")

    def touch_scattered(self):
        """Every hundredth row of pgbench_accounts, other ones each time."""
        self.touch(f"aid % 100 = {self.scattered_rest}")
        self.scattered_rest = (self.scattered_rest + 1) % 100

    def touch(self, condition):
        self.cluster.sql(f"update pgbench_accounts set abalance = abalance + 1 where {condition}", "checkpoint")


def wide_rows(count):
    return ("select i as id, md5(random()::text) as digest, md5(random()::text)::uuid as key, "
            f"random() as number from generate_series(1, {count}) i")


def fill_small_files(host, cluster, share):
    """Text of 64 bytes to 8 KiB per file in a directory of its own: compressible, and no two alike."""
    root, count = cluster.data / "small_files", round(SMALL_FILES * share)
    for number in range(count):
        directory = root / f"{number // 1000:03}"
        if number % 1000 == 0:
            host.directory(*directory.relative_to(host.work).parts)
        path = directory / str(number)
        line = f"file {number} of a cluster with many relations, {number * 2654435761 % 2**32:08x}\n"
        path.write_text(line * (1 + number % 120), encoding="ascii")
        host.own(path)
    return count


def fill_to_a_thousand_files(cluster):
    """Small tables until the data directory has a thousand files outside of pg_wal."""
    have = sum(1 for path in cluster.data.rglob("*") if path.is_file() and "pg_wal" not in path.parts)
    tables = max(0, SMALL_CLUSTER_FILES - have)
    cluster.sql(f"do $$ begin for i in 1..{tables} loop execute format('create table t%s as select 1', i); "
                "end loop; end $$", "checkpoint")


class Segments:
    """Full segments of WAL under load, and the data directory as it was before them."""

    def __init__(self, host, cluster, count):
        self.host = host
        self.cluster = cluster
        self.directory = host.directory("segments")
        self.base = cluster.home / "base"
        self.target = "end_of_bench"
        # The names up to which a recovery to the restore point replays.
        self.names = []
        self.generate(count)

    def generate(self, count):
        cluster = self.cluster
        cluster.archive_with(f"exec cp \"$1\" {self.directory}/\"$2\"")
        self.host.run(["cp", "--archive", cluster.data, self.base])
        cluster.start()
        cluster.pgbench(5)
        cluster.sql(f"create table wide as {wide_rows(1)}")
        # The last segment is not full, and the server's own shutdown comes after the restore point.
        while self.written() < count * SEGMENT_BYTES:
            cluster.sql("truncate wide", f"insert into wide {wide_rows(300_000)}",
                        "update pgbench_accounts set abalance = abalance + 1 where aid % 10 = 0", "checkpoint")
        cluster.sql(f"select pg_create_restore_point('{self.target}')")
        cluster.settle()
        cluster.stop()
        names = (path.name for path in self.directory.iterdir() if len(path.name) == 24)
        self.names = sorted(names)
        remove(cluster.data)

    def written(self):
        return int(self.cluster.sql("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/1000000')"))

    def data_directory(self, name):
        """A data directory of the cluster, at the beginning of the WAL, with nothing in pg_wal."""
        home = self.host.directory("data-directories", name)
        remove(home)
        self.host.run(["cp", "--archive", self.base, home])
        for path in (home / "pg_wal").iterdir():
            if path.is_file():
                path.unlink()
        return home

    def offer(self, data, names):
        """Lays these segments alone into pg_wal, ready to be archived. They are links: nobody writes to them."""
        status = data / "pg_wal/archive_status"
        for path in [*(data / "pg_wal").iterdir(), *status.iterdir()]:
            if path.is_file():
                path.unlink()
        for name in names:
            (data / "pg_wal" / name).hardlink_to(self.directory / name)
            (status / f"{name}.ready").touch()
            self.host.own(status / f"{name}.ready")

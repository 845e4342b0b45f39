"""Rows about getting a cluster's files back."""

from benchmark.backup_rows import archive, repositories
from benchmark.bench import Kept, compete, measure
from benchmark.contestants import COPY, ON_A_DIRECTORY, PGBACKREST_3, WALRS, settings_for
from benchmark.host import Failed, remove
from benchmark.measure import Step
from benchmark.row import Row
from benchmark.stores import Stores
from benchmark.wal_rows import without_storage

GROUP = "Restore"
DELTAS = 8


def rows():
    found = [Row("restore-full", store, GROUP, "Restore the full backup of {tables}", full)
             for store in Stores.names()]
    return [
        *found,
        Row("restore-8th-delta", "directory", GROUP, "Restore the 8th delta, and the full it goes back to", eighth),
        Row("restore-in-place", "directory", GROUP, "Restore in place, onto an untouched directory", in_place),
    ]


def entering(bench, row):
    found, store = repositories(bench), bench.stores[row.store]
    return lambda variant: Kept(found.with_full(store, variant))


def destination(bench, row):
    """An empty directory for a restore."""
    path = bench.host.work / "restored" / row.name
    remove(path)
    return bench.host.directory("restored", row.name)


def restore(bench, row, contestant, backup, suffix=""):
    target = destination(bench, row)
    step = Step(contestant.restore(target, backup))
    try:
        return without_storage(measure(bench, row, contestant, bench.host.work, [step], suffix))
    finally:
        remove(target)


def full(bench, row):
    """Files only, ready for a recovery that is not part of it. `cp` copies the running server's directory."""
    enter = entering(bench, row)
    variants = [*settings_for(row.store), *([COPY] if row.store == "directory" else [])]

    def enter_or_copy(variant):
        return Kept(copy(bench, row)) if variant is COPY else enter(variant)

    def turn(kept, _):
        return restore(bench, row, kept.contestant, kept.contestant.full_backup)

    compete(bench, row, variants, enter_or_copy, {"": turn})


def copy(bench, row):
    """What has the data directory itself for a backup."""
    contestant = bench.contestant(COPY, bench.stores[row.store], row.full_name, bench.large().cluster.data)
    contestant.full_backup = contestant.data
    return contestant


def eighth(bench, row):
    """Eight deltas on one full, of rows side by side and scattered in turn."""
    found, large, store = repositories(bench), bench.large(), bench.stores[row.store]
    variants = [WALRS, PGBACKREST_3]
    # A full with nothing on top, so that the delta restored is the eighth.
    chains, failures = {}, {}
    for variant in variants:
        attempt(failures, variant, lambda: chains.update({variant: found.with_fresh_full(store, variant)}))
    for number in range(DELTAS):
        found.cluster.archive_with("exit 0")
        (large.touch_scattered if number % 2 else large.touch_clustered)()
        for variant, contestant in chains.items():
            if variant not in failures:
                attempt(failures, variant, lambda: add_delta(found.cluster, contestant))

    def enter(variant):
        if variant in failures:
            raise failures[variant]
        return Kept(chains[variant])

    compete(bench, row, variants, enter, {
        ", full": lambda kept, _: restore(bench, row, kept.contestant, kept.contestant.full_backup, ", full"),
        ", 8th delta": lambda kept, _: restore(bench, row, kept.contestant, kept.contestant.last_backup()[0],
                                               ", 8th delta"),
    })


def attempt(failures, variant, work):
    try:
        work()
    except Failed as failure:
        failures[variant] = failure


def add_delta(cluster, contestant):
    archive(cluster, contestant)
    contestant.run(contestant.delta())
    name, kind = contestant.last_backup()
    if kind != "delta":
        raise Failed(f"backup `{name}` is no delta but of kind `{kind}`")


def in_place(bench, row):
    """The directory is as the same restore left it."""
    enter = entering(bench, row)

    def restored(variant):
        contestant = enter(variant).contestant
        contestant.restored = bench.host.directory("restored", row.name, variant.key.replace(",", "").replace(" ", "-"))
        contestant.run(contestant.restore(contestant.restored, contestant.full_backup))
        return Kept(contestant)

    def turn(kept, _):
        contestant = kept.contestant
        step = Step(contestant.restore_in_place(contestant.restored, contestant.full_backup))
        return without_storage(measure(bench, row, contestant, bench.host.work, [step]))

    try:
        compete(bench, row, ON_A_DIRECTORY, restored, {"": turn})
    finally:
        remove(bench.host.work / "restored" / row.name)

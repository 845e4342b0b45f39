"""From the command line to the report."""

import contextlib
import signal
import sys
import time

from benchmark import (arguments, backup_rows, machine, recovery_rows, report, restore_rows, results, start_rows,
                       wal_rows)
from benchmark.bench import Bench
from benchmark.builds import Programs
from benchmark.row import say

MODULES = [start_rows, wal_rows, recovery_rows, backup_rows, restore_rows]


def main(description):
    options = arguments.parse(description)
    rows = [row for module in MODULES for row in module.rows()]
    selected = [row for row in rows if not options.rows or row.matches(options.rows)]
    if options.list:
        print("\n".join(row.full_name for row in selected))
        return 0
    if not selected:
        say(f"no row matches; there are: {' '.join(row.full_name for row in rows)}")
        return 2
    signal.signal(signal.SIGTERM, interrupt)
    try:
        run(options, rows, selected)
    except KeyboardInterrupt:
        say("interrupted; nothing is left behind")
        return 130
    return 1 if any(row.failures for row in selected) else 0


def interrupt(*_):
    raise KeyboardInterrupt


def run(options, rows, selected):
    """The rows whose clusters are small come first: nothing but the row itself shall run on the machine."""
    began = time.monotonic()
    programs = Programs.get(options)
    with contextlib.ExitStack() as stack:
        bench = Bench(options, programs, stack)
        bench.replay_wanted = any(row.group == recovery_rows.GROUP for row in selected)
        facts = machine.facts(bench)
        for row in selected:
            say(f"{row.full_name}: {row.title.format(**bench.sizes())}")
            row_began = time.monotonic()
            row.run(bench)
            row.seconds = time.monotonic() - row_began
            say(f"  {row.full_name} took {row.seconds:.0f} s, what it prepared included")
        described = [results.describe(row, bench, facts) for row in selected]
        report.write(options, results.merge(options, rows, described), facts)
    say(f"{len(selected)} rows in {time.monotonic() - began:.0f} s; see {options.output / 'benchmarks.md'}")
    failed = sum(1 for row in selected if row.failures)
    if failed:
        say(f"{failed} rows FAILED")
    sys.stderr.flush()

"""What the command line asks for."""

import argparse
import pathlib

from benchmark.builds import TOP

FIGURES_ROUNDS = 5
LARGEST_SHARE = 4


def parse(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", action="append", metavar="GLOB", help="only rows whose names match; repeatable")
    parser.add_argument("--list", action="store_true", help="print the names of the selected rows, and stop")
    parser.add_argument("--rounds", type=int, default=FIGURES_ROUNDS)
    parser.add_argument("--share", type=float, default=1.0, help="of the data: less to try, up to 4 for more")
    parser.add_argument("--keep", action="store_true", help="rows that are not run stay as the last run had them")
    parser.add_argument("--output", type=pathlib.Path,
                        help="where benchmarks.md goes (default: docs for figures, else target/benchmarks)")
    parser.add_argument("--binary", type=pathlib.Path, help="a walrs to measure, instead of building this checkout")
    parser.add_argument("--pgbackrest", type=pathlib.Path, help="a pgbackrest to measure, instead of Debian 13's")
    parser.add_argument("--directory", default="/var/tmp", help="where the data goes (default /var/tmp)")
    options = parser.parse_args()
    if options.rounds < 1 or not 0 < options.share <= LARGEST_SHARE:
        parser.error(f"--rounds is at least 1, --share above 0 and at most {LARGEST_SHARE}")
    options.output = options.output or default_output(options)
    return options


def default_output(options):
    """A look is no figure: the documentation changes only by a run that is worth it."""
    whole = options.rounds >= FIGURES_ROUNDS and options.share == 1 and (options.keep or not options.rows)
    return TOP / "docs" if whole else TOP / "target/benchmarks"

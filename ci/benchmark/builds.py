"""The programs that take part: built here, installed, or unpacked."""

import dataclasses
import functools
import pathlib
import re
import subprocess

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
# The first that stores blocks of changed files.
FIRST_WITH_BLOCKS = (2, 46)


def build(*what):
    subprocess.run(["cargo", "build", "--release", "--locked", *what], cwd=TOP, check=True)
    return TOP / "target/release"


def install_packages():
    """What a fresh Debian 12 lacks; see ci/lib.sh."""
    script = ". ci/lib.sh; need_rust; need compiler postgresql openssl pgbackrest"
    subprocess.run(["bash", "-euc", script], cwd=TOP, check=True, stdout=subprocess.DEVNULL)


def newest_pgbackrest():
    """The one of ci/pgbackrest, or where that cannot be had, the installed one."""
    asked = subprocess.run([TOP / "ci/pgbackrest"], stdout=subprocess.PIPE, text=True, check=False)
    return pathlib.Path(asked.stdout.strip() if asked.returncode == 0 else "/usr/bin/pgbackrest")


@dataclasses.dataclass(frozen=True)
class Programs:
    walrs: pathlib.Path
    pgbackrest: pathlib.Path

    @staticmethod
    def get(options):
        install_packages()
        # Built by itself: what the tests add to the binary must not be in it.
        return Programs(options.binary or build("--bins") / "walrs", options.pgbackrest or newest_pgbackrest())

    @functools.cache
    def s3_server(self):
        """Built when a row first needs it."""
        return build("--example", "s3-server") / "examples/s3-server"

    @functools.cached_property
    def pgbackrest_version(self):
        text = subprocess.run([self.pgbackrest, "version"], stdout=subprocess.PIPE, text=True, check=True).stdout
        return tuple(int(number) for number in re.findall(r"\d+", text)[:2])

    @property
    def pgbackrest_stores_blocks(self):
        return self.pgbackrest_version >= FIRST_WITH_BLOCKS

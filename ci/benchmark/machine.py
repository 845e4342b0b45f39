"""The machine and the versions, as far as they say something about figures."""

import datetime
import os
import pathlib
import platform
import subprocess

from benchmark.builds import TOP
from benchmark.host import POSTGRES_BIN


def facts(bench):
    """Names and values; the first ones are about the run."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "rounds": str(bench.rounds),
        "share of the data": f"{bench.share:g}",
        "CPU": f"{cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{memory_gib():.0f} GiB",
        "file system": file_system(bench.host.work),
        "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "distribution": distribution(),
        "walrs": first_line([bench.programs.walrs, "--version"]),
        "pgbackrest": first_line([bench.programs.pgbackrest, "version"]) + blocks(bench),
        "PostgreSQL": first_line([POSTGRES_BIN / "postgres", "--version"]),
        "pg_basebackup": first_line([POSTGRES_BIN / "pg_basebackup", "--version"]),
        "cp": first_line(["cp", "--version"]),
        "Rust": first_line(["rustc", "--version"]),
        "load before the run": f"{os.getloadavg()[0]:.1f} processes",
    }


def blocks(bench):
    return "" if bench.programs.pgbackrest_stores_blocks else " (before 2.46: no block-incremental backups)"


def first_line(command):
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


def commit():
    changed = first_line(["git", "status", "--porcelain", "--untracked-files=no"]) != "unknown"
    return first_line(["git", "rev-parse", "--short", "HEAD"]) + (", with changes" if changed else "")


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def file_system(path):
    """The type of the mount that holds the path."""
    best = ("", "unknown")
    for line in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind = line.split()[:3]
        if (str(path) + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def distribution():
    for line in pathlib.Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return "unknown"

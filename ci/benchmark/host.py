"""The place where everything happens: one temporary directory, one unprivileged user, processes that end with it."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

POSTGRES_BIN = pathlib.Path("/usr/lib/postgresql/15/bin")


class Failed(Exception):
    """Something of one row went wrong; the other rows go on."""


class Host:
    """Runs commands as the user of the throw-away servers, with an environment of its own."""

    def __init__(self, parent):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="walrs-bench-", dir=parent))
        self.work.chmod(0o755)
        self.identity = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            self.identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self.own(self.work)
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.work)}

    def close(self):
        shutil.rmtree(self.work)

    def own(self, path):
        if self.identity:
            os.chown(path, self.identity["user"], self.identity["group"])

    def directory(self, *names):
        """A directory below the work directory, made when absent."""
        path = self.work.joinpath(*names)
        for step in [*reversed(path.relative_to(self.work).parents), path.relative_to(self.work)]:
            if not (self.work / step).exists():
                (self.work / step).mkdir(mode=0o700)
                self.own(self.work / step)
        return path

    def write(self, path, text):
        """A whole file at once: a server may be reading it."""
        pending = path.with_name(path.name + ".new")
        pending.write_text(text, encoding="utf-8")
        pending.chmod(0o755)
        self.own(pending)
        pending.replace(path)

    def adopt(self, program):
        """A copy of a program where the user can run it."""
        copy = self.directory("bin") / program.name
        if copy.exists():
            return copy
        shutil.copy(program, copy)
        copy.chmod(0o755)
        self.own(copy)
        return copy

    def start(self, command, environment=None, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([str(word) for word in command], env=self.environment | (environment or {}),
                                cwd=self.work, text=True, **options, **self.identity)

    def run(self, command, environment=None, content=None):
        """What a command prints; Failed with what it complains about."""
        channel = subprocess.DEVNULL if content is None else subprocess.PIPE
        process = self.start(command, environment, stdin=channel)
        try:
            output, errors = process.communicate(content)
        except BaseException:
            process.terminate()
            process.communicate()
            raise
        if process.returncode != 0:
            words = " ".join(str(word) for word in command)
            raise Failed(f"`{words}` ended with {process.returncode}: {(errors or output).strip()}")
        return output


def remove(path):
    """Removes a tree, or nothing."""
    if path.exists():
        shutil.rmtree(path)


def usage_of(directory):
    """Bytes and number of the files in a directory; hidden ones are a server's own."""
    total, count = 0, 0
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            if not name.startswith(".") and not os.path.islink(path):
                total += os.path.getsize(path)
                count += 1
    return total, count

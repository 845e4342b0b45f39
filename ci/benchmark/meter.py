"""Runs the steps of one measurement and prints what they cost; started anew, by itself, for every measurement.

Reads a job from standard input, as JSON:

    directory, environment   where and with what the steps run
    postmaster               a data directory; the process that runs the steps passes for its server, or null
    steps                    [{command, timed, move: [from, to] or null, pause: seconds}]
    patience                 seconds that processes left behind get to end by themselves
    helpers                  "counted" or "ignored": what such processes cost

and prints {wall, cpu, largest_mib, together_mib} or {failure}.

Two processes. The runner starts the steps one after another, as the server does with its archive and restore commands.
The keeper is the runner's parent and adopts whatever the steps leave behind, so that nothing escapes the bill. It is
this small, and has no thread, because the kernel counts the memory of a process from its fork on: the floor of
`largest_mib` is what the runner has touched, about 6 MiB.
"""

import json
import os
import signal
import sys
import time

SAMPLE_SECONDS = 0.1
ERROR_BYTES = 2000
MIB = 2**20


def main():
    job = json.load(sys.stdin)
    errors = os.memfd_create("errors")
    ready, start = os.pipe()
    answers, answer = os.pipe()
    runner = os.fork()
    if runner == 0:
        os.close(start)
        os.close(answers)
        os.read(ready, 1)
        os.write(answer, json.dumps(run(job, errors)).encode())
        os._exit(0)
    os.close(answer)
    adopt_orphans()
    os.write(start, b"!")
    keeper = Keeper(runner, job["patience"])
    helpers = keeper.watch()
    with os.fdopen(answers) as stream:
        text = stream.read()
    result = json.loads(text) if text else {"failure": "interrupted"}
    if "failure" not in result:
        if job["helpers"] == "counted":
            result["cpu"] += helpers["cpu"]
            result["largest_mib"] = max(result["largest_mib"], helpers["largest_mib"])
        result["together_mib"] = max(result["largest_mib"], keeper.together_mib)
    print(json.dumps(result))


# The runner


def run(job, errors):
    """All steps; the cost of the timed ones."""
    os.chdir(job["directory"])
    if job["postmaster"]:
        with open(os.path.join(job["postmaster"], "postmaster.pid"), "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    os.dup2(errors, 2)
    total = {"wall": 0.0, "cpu": 0.0, "largest_mib": 0.0}
    for step in job["steps"]:
        began = time.monotonic()
        status, usage = execute(step["command"], job["environment"])
        wall = time.monotonic() - began
        if status != 0:
            return {"failure": f"{describe(step['command'], status)}: {tail(errors)}"}
        if step["timed"]:
            add(total, usage)
            total["wall"] += wall
        if step["move"]:
            os.rename(*step["move"])
        time.sleep(step["pause"])
    return total


def execute(command, environment):
    process = os.fork()
    if process == 0:
        try:
            os.execve(command[0], command, environment)
        except OSError as error:
            os.write(2, f"{command[0]}: {error}".encode())
            os._exit(127)
    _, status, usage = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), usage


def add(total, usage):
    total["cpu"] += usage.ru_utime + usage.ru_stime
    total["largest_mib"] = max(total["largest_mib"], usage.ru_maxrss * 1024 / MIB)


def describe(command, status):
    return f"`{' '.join(command)}` ended with {status}"


def tail(errors):
    size = os.fstat(errors).st_size
    return os.pread(errors, ERROR_BYTES, max(0, size - ERROR_BYTES)).decode(errors="replace").strip()


# The keeper


def adopt_orphans():
    """Makes processes whose parents end children of this one; asks for an end when the benchmark itself is gone."""
    import ctypes  # after the fork: the runner shall not carry it
    library = ctypes.CDLL(None, use_errno=True)
    for option, value in ((36, 1), (1, signal.SIGTERM)):  # PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG
        if library.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


class Keeper:
    def __init__(self, runner, patience):
        self.runner = runner
        self.patience = patience
        self.together_mib = 0.0
        self.deadline = None
        signal.signal(signal.SIGTERM, self.interrupt)
        signal.signal(signal.SIGINT, self.interrupt)

    def interrupt(self, *_):
        self.deadline = 0.0

    def watch(self):
        """Waits until nothing is left; the cost of what others than the runner left behind."""
        helpers = {"cpu": 0.0, "largest_mib": 0.0}
        while True:
            try:
                process, _, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return helpers
            if process == self.runner and self.deadline is None:
                self.deadline = time.monotonic() + self.patience
            elif process > 0 and process != self.runner:
                add(helpers, usage)
            if process == 0:
                self.sample()
                if self.deadline is not None and time.monotonic() > self.deadline:
                    self.terminate()
                time.sleep(SAMPLE_SECONDS)

    def sample(self):
        everything = descendants(os.getpid()) - {os.getpid(), self.runner}
        self.together_mib = max(self.together_mib, sum(map(resident_mib, everything)))

    def terminate(self):
        for process in descendants(os.getpid()) - {os.getpid()}:
            try:
                os.kill(process, signal.SIGTERM)
            except ProcessLookupError:
                pass


def descendants(process):
    """The process and all below it, as far as they can be seen at this moment."""
    found, pending = set(), [process]
    while pending:
        current = pending.pop()
        found.add(current)
        try:
            with open(f"/proc/{current}/task/{current}/children", encoding="ascii") as children:
                pending.extend(int(child) for child in children.read().split())
        except OSError:
            continue
    return found


def resident_mib(process):
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            pages = file.read().split()[1]
    except (OSError, IndexError):
        return 0.0
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MIB


if __name__ == "__main__":
    main()

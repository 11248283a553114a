"""Faults for commands that run in forked processes: killed, the disk full, the folder read-only, two at once."""

import ctypes
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

from vkdnw_pl.cli import main

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
_DEADLINE_S = 120


class Process:
    """A command in a process of its own, without the seconds that imports take; its output goes into a file."""

    def __init__(self, arguments, output, before=lambda: None):
        self.began_at = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(arguments, output, before)

    def wait(self):
        """Its exit code, or the signal that ended it as a negative number."""
        while time.monotonic() < self.began_at + _DEADLINE_S:
            if self.has_ended():
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            time.sleep(0.002)
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"{self.pid} does not end")

    def has_ended(self):
        """Whether it has; it is there until `wait`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def children(self):
        """Processes that it has started."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            found += [int(number) for number in task.read_text().split()]
        return found

    @staticmethod
    def _work(arguments, output, before):
        code = 99
        try:
            os.setsid()
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            try:
                before()
                code = main(arguments)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)  # whatever happens: this is a copy of the process that tests


def kill_later(process, seconds):
    """SIGKILL after so long, if it has not ended; its exit code."""
    time.sleep(seconds)
    # A process that has ended is there until it is waited for.
    os.kill(process.pid, signal.SIGKILL)
    return process.wait()


def kill_a_child_later(process, seconds):
    """SIGKILL to the first process that it has started after so long; its exit code."""
    time.sleep(seconds)
    while not (children := process.children()) and not process.has_ended():
        time.sleep(0.002)
    for child in children[:1]:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return process.wait()


def count_changes(folder, act):
    """A function for the child: ``act`` is called with a number at each change of a file below the folder."""

    def begin():
        numbers = iter(range(1_000_000))
        owner, prefix = os.getpid(), str(folder)

        def watch(event, arguments):
            changes = event in _CHANGES or (event == "open" and _writes(arguments))
            if changes and str(arguments[0]).startswith(prefix) and os.getpid() == owner:
                act(next(numbers))

        sys.addaudithook(watch)

    return begin


def _writes(arguments):
    _, mode, flags = arguments
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR)) or (isinstance(mode, str) and not set(mode) <= set("rbt"))


def die_at(number):
    """For `count_changes`: SIGKILL in front of that change."""

    def act(place):
        if place == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def limit_files(size):
    """For the child: no file may become longer, and a write that would make it so writes what fits, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def obey_modes():
    """For the child: root meets the modes of files as everybody does."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, capabilities)
    capabilities[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, capabilities):
        raise OSError(ctypes.get_errno(), "capset")


@contextmanager
def read_only(folder):
    """Nothing below the folder can be written to."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


class Disk:
    """A file system of its own of a few MB, in which a ballast leaves as much room as a fault needs."""

    def __init__(self, folder, size):
        self.folder, self.ballast = folder, folder / ".ballast"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)

    def leave(self, room):
        """Fill it but for ``room`` bytes."""
        free = shutil.disk_usage(self.folder).free
        self.ballast.write_bytes(bytes(max(0, free - room)))

    def close(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


def can_mount(folder):
    """Whether file systems can be mounted here."""
    try:
        Disk(folder, 65536).close()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def stream(*parts):
    """Random numbers that are a function of the parts."""
    return random.Random("/".join(map(str, parts)))

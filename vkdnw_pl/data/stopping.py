"""Loader workers while a training is stopped by a signal that reaches them too. Torch-free."""

from __future__ import annotations

import os
import signal
import threading


def follow_parent(worker: int = 0) -> None:
    """In a loader's worker: end on SIGTERM of the parent only, and leave SIGINT and SIGUSR1 to it.

    Slurm (unless it tracks processes by cgroups) and a terminal signal every process of a job. A worker that ended at
    once would take the batches with it that its parent needs up to the end of the step.

    Args:
        worker: its number, as a ``DataLoader`` gives it to its ``worker_init_fn``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # Windows, macOS
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Blocked, so that the thread learns who sent it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_await_parent, args=(os.getppid(),), name="await-parent", daemon=True).start()


def _await_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # what the loader asks for is no failure

"""Runs the prediction loop: one process, or several that share the rows."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.multiprocessing.spawn import ProcessExitedException

from vkdnw_pl.runs.signals import await_own_signal, stop_signals
from vkdnw_pl.runs.table import Key
from vkdnw_pl.scoring.data import ArchData
from vkdnw_pl.scoring.module import ScoringModule

_PATIENCE = timedelta(days=30)  # at the end a process waits for the others, and shares can differ by hours


class WorkerDied(RuntimeError):
    """A worker process was killed from outside or crashed."""

    def __init__(self, process: int, text: str) -> None:
        super().__init__(text)
        self.process = process


def start_method(device: str) -> str:
    """How worker processes begin: forked where that is safe, which saves each of them seconds of imports."""
    return "fork" if device == "cpu" and sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"


def predict(
    module: ScoringModule, keys: Sequence[Key], callbacks: Sequence[Callback], device: str, processes: int
) -> None:
    """Make the rows of ``keys``; the callbacks keep them.

    On CPU every process computes with one thread, however many there are, so that a row has the same bits.

    Args:
        module: scores one architecture.
        keys: (architecture, seed) pairs; process i makes those at the places i, i + processes, ...
        callbacks: see ``vkdnw_pl.callbacks``.
        device: ``cpu`` or ``cuda``.
        processes: 1 stays in this process.

    Raises:
        Stopped: on SIGINT, SIGTERM and SIGUSR1; the worker processes have ended then.
        WorkerDied: if a worker process ended by itself; the others have ended then.
    """
    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(local_rendezvous())
        stack.enter_context(one_thread())
        stack.enter_context(torch.random.fork_rng(devices=[]))  # a data loader draws a number, even in order
        stack.enter_context(stop_signals())
        trainer = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=processes,
            strategy=_strategy(device, processes),
            plugins=[LightningEnvironment()],  # a SLURM job is one run here too; several share work by --shard
            callbacks=list(callbacks),
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.predict(module, datamodule=ArchData(keys), return_predictions=False)
        except ProcessExitedException as error:
            await_own_signal(error.exit_code)
            raise WorkerDied(error.error_index, error.msg) from error
        finally:
            _end_workers(trainer)


def _strategy(device: str, processes: int) -> Strategy | str:
    if processes == 1:
        return "auto"
    method = start_method(device)
    backend = "gloo" if device == "cpu" else "nccl"
    return DDPStrategy(start_method=method, process_group_backend=backend, timeout=_PATIENCE)  # type: ignore[arg-type]


def _end_workers(trainer: Trainer) -> None:
    """End workers that are left after an exception; what they have made is on the disk."""
    for worker in getattr(trainer.strategy.launcher, "procs", ()):
        if worker.is_alive():
            worker.kill()
        worker.join()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: the bits of a sum depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def local_rendezvous() -> Iterator[None]:
    """Let the workers of this machine meet at a free port of its own interface, whatever the environment says."""
    own: dict[str, str | None] = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": None, "NODE_RANK": None}
    if sys.platform == "linux":
        own["GLOO_SOCKET_IFNAME"] = "lo"  # a host name that leads to an unreachable address would block
    names = [*own, "WORLD_SIZE", "LOCAL_RANK"]  # the launcher sets these
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ.update({name: value for name, value in own.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's banners and tips: the commands say what the user needs."""
    names = ("pytorch_lightning", "lightning_fabric", "torch.distributed", "torch.multiprocessing.spawn")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for text in (
            "does not have many workers",
            "use of fork",
            "GPU available but not used",
            "`srun` command is available",
        ):
            warnings.filterwarnings("ignore", message=f".*{text}.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)

"""The processes that Slurm or torchrun started for a training, what the trainer must know of them, and what they share."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from lightning_fabric.plugins.environments import SLURMEnvironment
from pytorch_lightning import Trainer

from vkdnw_pl.errors import UsageError

_PLAN_VARIABLE = "_VKDNW_PL_PLAN"
"""Of the processes that Lightning starts when the training begins, and the plan is made."""


@dataclass(frozen=True)
class Processes:
    """Processes that were started by ``Slurm`` or ``torchrun``, one for each device."""

    launcher: str
    total: int
    nodes: int
    rank: int

    @property
    def per_node(self) -> int:
        """Processes of one node; the same on each."""
        return self.total // self.nodes

    @property
    def options(self) -> str:
        """The launcher's options for so many."""
        if self.launcher == "Slurm":
            return f"--nodes {self.nodes} --ntasks-per-node {self.per_node}"
        return f"--nnodes {self.nodes} --nproc-per-node {self.per_node}"


def started_processes(environment: Mapping[str, str] | None = None) -> Processes | None:
    """Who started this process; None where it stands alone and may start others itself.

    That is also so in a shell on a node (``srun --pty bash``, ``salloc``), where Slurm's variables are those of the
    shell, and for the processes that Lightning starts.
    """
    env = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in env:
        total = int(env["WORLD_SIZE"])
        return Processes("torchrun", total, total // int(env.get("LOCAL_WORLD_SIZE", total)), int(env["RANK"]))
    if "SLURM_JOB_ID" not in env or "LOCAL_RANK" in env:
        return None
    shell = env.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_STEP_NUM_TASKS" in env and "SLURM_PROCID" in env:
        total, nodes = int(env["SLURM_STEP_NUM_TASKS"]), int(env.get("SLURM_STEP_NUM_NODES", "1"))
        if total == 1 and shell:
            return None
        counts = set(_counts(env.get("SLURM_STEP_TASKS_PER_NODE", "")))
        if len(counts) > 1:
            raise ValueError(
                f"Slurm started {total} tasks on {nodes} nodes, not the same number on each "
                f"({env['SLURM_STEP_TASKS_PER_NODE']}): give --nodes and --ntasks-per-node"
            )
        return Processes("Slurm", total, nodes, int(env["SLURM_PROCID"]))
    if shell:
        return None
    total = int(env.get("SLURM_NTASKS") or "1")
    if total > 1:
        raise ValueError(
            f"the Slurm job has {total} tasks (SLURM_NTASKS), but this process, which would wait for the others, was not "
            "started by srun: put srun before the command, or take slurm/fit_ddp.sbatch"
        )
    return Processes("Slurm", 1, 1, 0)


class SlurmTasks(SLURMEnvironment):
    """The tasks of a job step as the processes of a training.

    Lightning's own wants SLURM_NTASKS_PER_NODE, takes the job's tasks for the step's, and puts the job back into the
    queue itself, with a checkpoint that any later training in the same folder would continue from. Here the job's
    script does that.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        return self._processes.total

    @property
    def main_address(self) -> str:
        if nodes := os.environ.get("SLURM_STEP_NODELIST"):
            os.environ.setdefault("MASTER_ADDR", self.resolve_root_node_address(nodes))
        return super().main_address

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Nothing: the options were made from the tasks."""

    @staticmethod
    def _validate_srun_used() -> None:
        """Nothing: `started_processes` has done it."""

    _validate_srun_variables = _validate_srun_used


def launched_options(processes: Processes | None, user_options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the trainer that follow from how the processes were started.

    The user's ``devices`` and ``num_nodes`` must make no other processes, which would wait for ever, or see a part of
    the images; ``auto`` takes all, and 1 node was left out.
    """
    if processes is None:
        return {}
    launcher = processes.launcher
    devices, num_nodes = user_options.get("devices", "auto"), user_options.get("num_nodes", 1)
    number = _number_of(devices)
    nodes = num_nodes if num_nodes > 1 else processes.nodes
    per_node = processes.per_node if number is None else number
    if (per_node, nodes) != (processes.per_node, processes.nodes):
        by_options = Processes(launcher, per_node * nodes, nodes, 0)
        raise UsageError(
            f"trainer.devices={devices} and trainer.num_nodes={num_nodes} make {by_options.total} process(es), but "
            f"{launcher} started {processes.total} ({processes.options}). Leave both options out, or start as many: "
            f"{by_options.options}{' for sbatch, and srun before the command' if launcher == 'Slurm' else ''}"
        )
    options: dict[str, Any] = {"num_nodes": nodes} if number is not None else {"devices": per_node, "num_nodes": nodes}
    if launcher == "Slurm":
        plugins = user_options.get("plugins") or []
        options["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), SlurmTasks(processes)]
    return options


def check_world(trainer: Trainer, processes: Processes | None) -> None:
    """Make sure that every process is there and knows of the others: Lightning lets one train alone on a part of the images."""
    devices = trainer.num_devices * trainer.num_nodes
    total = devices if processes is None else processes.total
    if devices == trainer.world_size == total:
        return
    started = f"{processes.launcher} started {total} process(es) ({processes.options}), but " if processes else ""
    raise UsageError(
        f"{started}this process trains as one of {trainer.world_size}, with {trainer.num_devices} device(s) on "
        f"{trainer.num_nodes} node(s): take trainer.strategy=ddp (or auto) and no cluster environment in trainer.plugins"
    )


def with_gpu_hint(processes: Processes | None, text: str) -> str:
    """Lightning's message, with what is mostly behind it under Slurm."""
    if processes is None or processes.total == 1 or "requested gpu" not in text.lower():
        return text
    return f"{text} Each task must see all GPUs of its node: give --gpus-per-node, not --gpus-per-task or --gpu-bind"


@dataclass(frozen=True)
class FitPlan:
    """What a training does with its run folder, decided by the process of rank zero: where it begins, or why not."""

    resume: str | None = None
    """Checkpoint to go on from; None to begin anew."""
    exit_code: int | None = None
    """Exit code where there is nothing to train: 0 for a training that is finished, another for an error."""


@contextmanager
def shared_plan(trainer: Trainer, plan: FitPlan | None) -> Iterator[FitPlan]:
    """Give the plan of rank zero (None in the others) to all processes: the first thing that they do together."""
    inherited = os.environ.get(_PLAN_VARIABLE)
    if plan is None and inherited is not None:
        yield FitPlan(**json.loads(inherited))
        return
    strategy: Any = trainer.strategy
    if trainer.world_size > 1 and strategy.cluster_environment.creates_processes_externally:
        strategy.setup_environment()
        plan = strategy.broadcast(plan)
    assert plan is not None
    os.environ[_PLAN_VARIABLE] = json.dumps(asdict(plan))
    try:
        yield plan
    finally:
        os.environ.pop(_PLAN_VARIABLE, None)


def _counts(text: str) -> list[int]:
    """``2(x3),1`` -> 2, 1."""
    return [int(number) for number in re.findall(r"(\d+)(?:\(x\d+\))?(?:,|$)", text)]


def _number_of(devices: Any) -> int | None:
    """How many devices a node has by the trainer's option; None where it leaves that open."""
    if isinstance(devices, str) and "," in devices:
        return len([device for device in devices.split(",") if device.strip()])
    if isinstance(devices, list | tuple):
        return len(devices)
    try:
        number = int(devices)
    except (TypeError, ValueError):
        return None  # auto
    return None if number < 0 else number

"""The processes that Slurm or torchrun started for a training, and whether the trainer's options agree. Torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Processes:
    """Processes that were started from outside, one for each device."""

    launcher: str
    """``Slurm`` or ``torchrun``."""
    total: int
    nodes: int
    rank: int
    """Of this one among all."""

    @property
    def per_node(self) -> int:
        """Processes of one node; the same on each."""
        return self.total // self.nodes

    @property
    def options(self) -> str:
        """What their launcher was, or should be, given for so many."""
        if self.launcher == "Slurm":
            return f"--nodes {self.nodes} --ntasks-per-node {self.per_node}"
        return f"--nnodes {self.nodes} --nproc-per-node {self.per_node}"


def started_processes(environment: Mapping[str, str] | None = None) -> Processes | None:
    """Find out who started this process; None where it stands alone and may start others itself.

    That is also so in a shell on a node (``srun --pty bash``, ``salloc``), where Slurm's variables are those of the
    shell, and for the processes that Lightning starts.

    Raises:
        ValueError: if Slurm has several tasks and this process is not one of them, or nodes have different numbers.
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
                f"({env['SLURM_STEP_TASKS_PER_NODE']}): give sbatch or srun --nodes and --ntasks-per-node"
            )
        return Processes("Slurm", total, nodes, int(env["SLURM_PROCID"]))
    if shell:
        return None
    total = int(env.get("SLURM_NTASKS") or "1")
    if total > 1:
        raise ValueError(
            f"the Slurm job has {total} tasks (SLURM_NTASKS), but this process was not started by srun, and would wait for "
            "the others for ever: put srun before the command, or take slurm/fit_ddp.sbatch"
        )
    return Processes("Slurm", 1, 1, 0)


def trainer_options(processes: Processes, devices: Any, num_nodes: int) -> dict[str, int]:
    """``devices`` and ``num_nodes`` of the trainer, for as many processes as were started.

    Args:
        processes: those that were started.
        devices: what the user gave; ``auto`` takes them all.
        num_nodes: what the user gave; 1 where it was left out.

    Raises:
        ValueError: if the user's numbers make others: processes would wait for ever, or see a part of the images.
    """
    wanted = _number_of(devices)
    nodes = num_nodes if num_nodes > 1 else processes.nodes
    if wanted is None and nodes == processes.nodes:
        return {"devices": processes.per_node, "num_nodes": processes.nodes}
    per_node = processes.per_node if wanted is None else wanted
    if (per_node, nodes) != (processes.per_node, processes.nodes):
        given = Processes(processes.launcher, per_node * nodes, nodes, 0)
        raise ValueError(
            f"trainer.devices={devices} and trainer.num_nodes={num_nodes} make {given.total} process(es), but "
            f"{processes.launcher} started {processes.total} ({processes.options}). Leave both options out to take what "
            f"{processes.launcher} started, or start as many: {given.options}"
            + (" for sbatch, and srun before the command" if processes.launcher == "Slurm" else "")
        )
    return {"num_nodes": nodes}


def _counts(text: str) -> list[int]:
    """``2(x3),1`` -> 2, 1."""
    return [int(number) for number in re.findall(r"(\d+)(?:\(x\d+\))?(?:,|$)", text)]


def _number_of(devices: Any) -> int | None:
    """How many devices a node has by the trainer's option; None where it leaves that open."""
    if isinstance(devices, str) and "," in devices:
        return len([one for one in devices.split(",") if one.strip()])
    if isinstance(devices, list | tuple):
        return len(devices)
    try:
        number = int(devices)
    except (TypeError, ValueError):
        return None  # auto
    return None if number < 0 else number

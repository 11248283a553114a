"""Slurm for Lightning's trainer."""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments import SLURMEnvironment

from vkdnw_pl.training.processes import Processes


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

    @staticmethod
    def _validate_srun_variables() -> None:
        """Nothing, as above."""

"""The trainer of a process that Slurm started together with others."""

import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment

from vkdnw_pl.commands.train_processes import check_world, hint, launched_options
from vkdnw_pl.errors import UsageError
from vkdnw_pl.training.processes import Processes
from vkdnw_pl.training.slurm import SlurmTasks

TWO = Processes("Slurm", 2, 1, 0)


def test_options_of_a_task():
    options = launched_options(TWO, {"devices": "auto", "num_nodes": 1, "plugins": None})
    assert (options["devices"], options["num_nodes"]) == (2, 1)
    (plugin,) = options["plugins"]
    assert isinstance(plugin, SlurmTasks)
    assert launched_options(None, {"devices": 2}) == {}
    assert "plugins" not in launched_options(Processes("torchrun", 2, 1, 0), {})


def test_the_users_plugins_stay():
    other = object()
    assert launched_options(TWO, {"plugins": other})["plugins"][0] is other
    assert launched_options(TWO, {"plugins": [other]})["plugins"][0] is other


class _Alone(LightningEnvironment):
    """Knows of one process, as Slurm's with SLURM_NTASKS=1."""

    def set_world_size(self, size):
        super().set_world_size(1)


@pytest.mark.parametrize(
    ("devices", "plugins", "processes", "text"),
    [
        (1, [], TWO, r"Slurm started 2 process\(es\) .* this process trains as one of 1, with 1 device"),
        (2, [_Alone()], None, r"^this process trains as one of 1, with 2 device"),
    ],
)
def test_a_process_that_would_train_alone(devices, plugins, processes, text):
    trainer = Trainer(accelerator="cpu", devices=devices, plugins=plugins, logger=False)
    with pytest.raises(UsageError, match=text):
        check_world(trainer, processes)


def test_a_trainer_that_starts_its_processes_itself():
    check_world(Trainer(accelerator="cpu", devices=2, logger=False), None)


def test_gpus_that_a_task_does_not_see():
    text = "You requested gpu: [0, 1]\n But your machine only has: [0]"
    assert "--gpus-per-node, not --gpus-per-task" in hint(TWO, text)
    assert hint(None, text) == text
    assert hint(TWO, "something else") == "something else"

"""Who started the processes of a training, and the trainer of a process that was started together with others."""

import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment

from vkdnw_pl.errors import UsageError
from vkdnw_pl.training.processes import (
    Processes,
    SlurmTasks,
    check_world,
    launched_options,
    started_processes,
    with_gpu_hint,
)


def trainer_options(processes, devices, num_nodes):
    options = launched_options(processes, {"devices": devices, "num_nodes": num_nodes})
    return {name: value for name, value in options.items() if name != "plugins"}


BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "fit", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def step(total, nodes=1, layout=None, rank=0, name="fit"):
    """Variables as srun sets them (Slurm 22.05)."""
    return {
        **BATCH,
        "SLURM_JOB_NAME": name,
        "SLURM_NTASKS": str(total),
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(total),
        "SLURM_STEP_NUM_NODES": str(nodes),
        "SLURM_STEP_TASKS_PER_NODE": layout or str(total),
    }


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({**BATCH, "SLURM_NTASKS": "1"}, Processes("Slurm", 1, 1, 0)),
        (BATCH, Processes("Slurm", 1, 1, 0)),
        (step(2, rank=1), Processes("Slurm", 2, 1, 1)),
        (step(8, 2, "4(x2)", 5), Processes("Slurm", 8, 2, 5)),
        (step(12, 3, "4,4(x2)", 5), Processes("Slurm", 12, 3, 5)),
        # A shell on a node, and a step that is started from it.
        (step(1, name="bash"), None),
        ({**BATCH, "SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "4"}, None),
        (step(4, name="bash", rank=2), Processes("Slurm", 4, 1, 2)),
        # Processes of Lightning's launcher, in a job of one task.
        ({**BATCH, "SLURM_NTASKS": "1", "LOCAL_RANK": "1"}, None),
        # torchrun, also within a job.
        (TORCHRUN, Processes("torchrun", 4, 2, 3)),
        ({**step(2), **TORCHRUN}, Processes("torchrun", 4, 2, 3)),
    ],
)
def test_who_started_it(environment, expected):
    assert started_processes(environment) == expected


def test_tasks_without_srun():
    with pytest.raises(ValueError, match=r"the Slurm job has 4 tasks .* put srun before the command"):
        started_processes({**BATCH, "SLURM_NTASKS": "4"})


def test_uneven_nodes():
    with pytest.raises(ValueError, match=r"3 tasks on 2 nodes, not the same number on each \(2,1\)"):
        started_processes(step(3, 2, "2,1"))


@pytest.mark.parametrize("devices", ["auto", -1, "-1"])
def test_options_left_out_follow_from_the_processes(devices):
    assert trainer_options(Processes("Slurm", 8, 2, 0), devices, 1) == {"devices": 4, "num_nodes": 2}


@pytest.mark.parametrize("devices", [4, "4", [0, 1, 2, 3], "0,1,2,3"])
@pytest.mark.parametrize("num_nodes", [1, 2])
def test_options_that_agree(devices, num_nodes):
    assert trainer_options(Processes("Slurm", 8, 2, 0), devices, num_nodes) == {"num_nodes": 2}


@pytest.mark.parametrize(
    ("total", "nodes", "devices", "num_nodes", "advice"),
    [
        (1, 1, 2, 1, "--nodes 1 --ntasks-per-node 2"),  # Lightning would train on half of the images
        (2, 1, 1, 1, "--nodes 1 --ntasks-per-node 1"),  # each process would train alone, into one folder
        (4, 2, 4, 1, "--nodes 2 --ntasks-per-node 4"),
        (4, 1, "auto", 2, "--nodes 2 --ntasks-per-node 4"),
        (4, 1, [0, 1], 1, "--nodes 1 --ntasks-per-node 2"),
    ],
)
def test_options_that_make_other_processes(total, nodes, devices, num_nodes, advice):
    with pytest.raises(ValueError, match=rf"Slurm started {total} .*start as many: {advice} for sbatch"):
        trainer_options(Processes("Slurm", total, nodes, 0), devices, num_nodes)


def test_advice_for_torchrun():
    with pytest.raises(ValueError, match=r"torchrun started 4 .*start as many: --nnodes 2 --nproc-per-node 3$"):
        trainer_options(Processes("torchrun", 4, 2, 0), 3, 1)


def test_lightning_does_not_requeue(monkeypatch):
    for name, value in step(2, rank=1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_NODELIST", "elsewhere[1-3]")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[2-3]")
    monkeypatch.setenv("SLURM_NTASKS", "9")  # of the job
    monkeypatch.setenv("MASTER_ADDR", "")  # so that it is put back
    monkeypatch.delenv("MASTER_ADDR")
    tasks = SlurmTasks(Processes("Slurm", 2, 1, 1))
    assert not tasks.auto_requeue
    assert (tasks.world_size(), tasks.global_rank(), tasks.main_address) == (2, 1, "node2")


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
    assert "--gpus-per-node, not --gpus-per-task" in with_gpu_hint(TWO, text)
    assert with_gpu_hint(None, text) == text
    assert with_gpu_hint(TWO, "something else") == "something else"

"""Running ``fit`` in processes of their own, without the seconds that importing torch takes."""

import multiprocessing
import os
import socket

import yaml
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from vkdnw_pl.cli import main
from vkdnw_pl.training.module import TrainingModule

TINY_ARCH = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


def run_fit(config, out, *options, signum=None, step=None, during="on_train_batch_end", **environment):
    """Train in a forked process; one that gets a signal in a hook after that many steps. Returns its exit code."""
    strikes = {} if signum is None else {0: (signum, step, during)}
    return run_tasks(config, out, *options, tasks=None, strikes=strikes, **environment)[0]


def run_tasks(config, out, *options, tasks=2, strikes=None, **environment):
    """Train in forked processes, as srun starts them; some get a signal.

    Args:
        tasks: how many; None for one that nobody started.
        strikes: rank -> signal, steps before it, hook of the module that it comes in.

    Returns:
        The exit codes by rank.
    """
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def work(rank):
        rank_zero_only.rank = rank  # Lightning reads it from the environment when it is imported
        if tasks is not None:
            os.environ.update(srun_variables(tasks, rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        os.environ.update(environment)
        if strikes and rank in strikes:
            strike_once(*strikes[rank])
        os._exit(main(["fit", "--config", str(file), "--out", str(out), *options]))

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(rank,)) for rank in range(tasks or 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def srun_variables(tasks, rank, nodes=1):
    """What Slurm 22.05 tells the task of a step."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "fit",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NNODES": str(nodes),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NUM_NODES": str(nodes),
        "SLURM_STEP_TASKS_PER_NODE": str(tasks),
    }


def strike_once(signum, step, during):
    """Let this process signal itself in a hook of the module, after so many steps."""
    hook = getattr(TrainingModule, during, None)
    once = []

    def strike(self, *arguments, **named):
        if self.global_step == step and not once and (step == 0 or not self.trainer.sanity_checking):
            once.append(True)
            os.kill(os.getpid(), signum)
        return hook(self, *arguments, **named)

    setattr(TrainingModule, during, strike)

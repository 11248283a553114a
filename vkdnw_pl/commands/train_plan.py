"""What a training does with its run folder: decided by the process of rank zero, for all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pytorch_lightning import Trainer

_VARIABLE = "_VKDNW_PL_PLAN"
"""Of the processes that Lightning starts when the training begins, and the plan is made."""


@dataclass(frozen=True)
class Plan:
    """Where the training begins, or why it does not."""

    resume: str | None = None
    """Checkpoint to go on from; None to begin anew."""
    code: int | None = None
    """Exit code where there is nothing to train: 0 for a training that is finished, another for an error."""


@contextmanager
def shared_plan(trainer: Trainer, plan: Plan | None) -> Iterator[Plan]:
    """Give the plan of rank zero to all processes.

    Processes that were started from outside meet here; it is the first thing that they do together.

    Args:
        trainer: not used before.
        plan: None in all processes but the one of rank zero.
    """
    known = os.environ.get(_VARIABLE)
    if plan is None and known is not None:
        yield Plan(**json.loads(known))
        return
    strategy: Any = trainer.strategy
    if trainer.world_size > 1 and strategy.cluster_environment.creates_processes_externally:
        strategy.setup_environment()
        plan = strategy.broadcast(plan)
    assert plan is not None
    os.environ[_VARIABLE] = json.dumps(asdict(plan))
    try:
        yield plan
    finally:
        os.environ.pop(_VARIABLE, None)

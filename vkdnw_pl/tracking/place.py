"""Where W&B keeps what belongs to a run: its id and all its folders are in the run folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from vkdnw_pl.runs.folder import WANDB_FOLDER, WANDB_ID

OWNERS = ("score", "search", "fit", "merge")
"""Commands whose run folder it is; others look at one, and have a W&B run of their own there."""


def run_id(folder: Path, command: str) -> str:
    """The id of the W&B run of this folder and command, by which a rerun continues it; kept in ``wandb_id``.

    Raises:
        OSError: if it cannot be written.
    """
    file = folder / (WANDB_ID if command in OWNERS else f"{WANDB_ID}.{command}")
    known = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    wanted = os.environ.get("WANDB_RUN_ID") or known or os.urandom(4).hex()
    if wanted != known:
        file.write_text(wanted + "\n", encoding="utf-8")
    return wanted


def make_folder(folder: Path) -> Path:
    """Make the folder ``wandb`` of a run folder, and make sure that it takes files.

    wandb itself would else go to the system's temporary folder.

    Raises:
        OSError: if it does not.
    """
    inner = folder / WANDB_FOLDER
    inner.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=inner) as file:
        file.write(b"wandb")
    return inner.resolve()


def use_folder(inner: Path) -> ExitStack:
    """Let wandb keep in ``inner`` what it would keep below the home folder; for this process, until the stack is closed.

    What the user's environment says stays as it is.
    """
    stack = ExitStack()
    wanted = {"WANDB_DATA_DIR": inner, "WANDB_CACHE_DIR": inner / "cache", "WANDB_SILENT": "true"}
    for variable, value in wanted.items():
        if variable not in os.environ:
            os.environ[variable] = str(value)
            stack.callback(_forget(variable))
    return stack


def _forget(variable: str) -> Callable[[], object]:
    return partial(os.environ.pop, variable, None)

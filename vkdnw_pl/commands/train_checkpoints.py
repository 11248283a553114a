"""Which checkpoint a command reads: the one that is named, or one of the run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.training.folder import TrainingFolder
from vkdnw_pl.training.weights import check_checkpoint

_NAMED = re.compile(r"last|best|epoch_\d+")


def resume_path(folder: TrainingFolder, ckpt_path: str | None, hparams: Mapping[str, Any]) -> str | None:
    """Checkpoint to train on from: the one that is named, else the run folder's last one; None where there is none.

    Raises:
        UsageError: if the one that is named is not there, damaged, or of another network.
    """
    if ckpt_path is None or ckpt_path == "last":
        if not folder.checkpoint("last").is_file():
            return None
        ckpt_path = "last"
    return str(_existing(folder, ckpt_path, hparams))


def evaluated_path(folder: TrainingFolder, ckpt_path: str | None, hparams: Mapping[str, Any]) -> str | None:
    """Checkpoint to evaluate: the one that is named, else the run folder's best one; ``none`` is the bare network.

    Raises:
        UsageError: as `resume_path`, and if there is none and none is named.
    """
    if ckpt_path == "none":
        return None
    there = [name for name in ("best", "last") if folder.checkpoint(name).is_file()]
    if ckpt_path is None and not there:
        raise UsageError(
            f"there is no {folder.checkpoint('best')} to evaluate: give --ckpt_path FILE (or last, best), or "
            "--ckpt_path none for the network as it is built"
        )
    return str(_existing(folder, ckpt_path or there[0], hparams))


def _existing(folder: TrainingFolder, ckpt_path: str, hparams: Mapping[str, Any]) -> Path:
    path = folder.checkpoint(ckpt_path) if _NAMED.fullmatch(ckpt_path) else Path(ckpt_path)
    if not path.expanduser().is_file():
        raise UsageError(f"ckpt_path={ckpt_path!r}: there is no file {path}")
    with user_input():
        check_checkpoint(path.expanduser(), hparams)
    return path.expanduser()

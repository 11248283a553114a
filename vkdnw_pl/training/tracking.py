"""Weights & Biases around a training: offline without a key, its files in the run folder, and one run through all resumes."""

from __future__ import annotations

import netrc
import os
import sys
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse


def wandb_loggers(loggers: Any) -> list[MutableMapping[str, Any]]:
    """The entries of ``trainer.logger`` that are WandbLoggers, as ``class_path`` and ``init_args``."""
    entries: Iterable[Any] = loggers if isinstance(loggers, list) else [loggers]
    return [one for one in entries if str(_get(one, "class_path")).endswith("WandbLogger")]


def prepare_wandb(loggers: Any, folder: Path) -> None:
    """Give every WandbLogger the run folder and the id of the run that was begun there; go offline without a key.

    Args:
        loggers: value of ``trainer.logger``, changed in place.
        folder: run folder; the id is kept in its ``wandb_id``.
    """
    entries = wandb_loggers(loggers)
    if not entries:
        return
    if not os.environ.get("WANDB_MODE") and not has_key():
        os.environ["WANDB_MODE"] = "offline"
        print("note: there is no W&B key (WANDB_API_KEY or `wandb login`), so W&B writes offline", file=sys.stderr)
    for entry in entries:
        arguments = _get(entry, "init_args")
        if str(arguments.get("save_dir")) in (".", "None"):
            arguments["save_dir"] = str(folder)
        if arguments.get("id") is None and arguments.get("version") is None:
            arguments["id"] = _run_id(folder)
        if arguments.get("name") in (None, "lightning_logs"):
            arguments["name"] = folder.name
    folder.mkdir(parents=True, exist_ok=True)
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        # Else tables and artifacts wait below the home folder, apart from the run.
        os.environ.setdefault(variable, str((folder / "wandb").resolve()))


def has_key() -> bool:
    """Whether W&B's server would know the user: a key in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(folder: Path) -> str:
    file = folder / "wandb_id"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(os.urandom(4).hex() + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _get(entry: Any, name: str) -> Any:
    return entry.get(name) if hasattr(entry, "get") else None

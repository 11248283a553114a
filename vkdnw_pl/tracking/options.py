"""What the user asks W&B for: the options of every command, and wandb's environment variables."""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

PROJECT = "vkdnw_pl"
"""Project of a bare ``--wandb``."""
MODES = ("online", "offline", "disabled", "shared")
_OLD_MODES = {"run": "online", "dryrun": "offline"}
_INIT_TIMEOUT_S, _FINISH_TIMEOUT_S = 15.0, 60.0
_MAX_PROJECT, _MAX_TAG = 128, 64
_NOT_IN_PROJECT = "/\\#?%:"
_CLOUD = "https://api.wandb.ai"


@dataclass(frozen=True)
class WandbOptions:
    """Where a run goes; None leaves it to the environment, then to the default."""

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


def wandb_options(options: Mapping[str, Any]) -> WandbOptions | None:
    """The options ``wandb``, ``wandb_group`` and ``wandb_tags`` of a command; None where W&B is not asked for.

    Args:
        options: ``wandb`` is a bool, ``PROJECT`` or ``ENTITY/PROJECT``.

    Raises:
        ValueError: if one is not allowed, has no use, or wandb's environment variables hold what is not allowed.
    """
    wandb, group, tags = options["wandb"], options["wandb_group"], tuple(options["wandb_tags"])
    if wandb is False:
        for name, given in (("wandb_group", group), ("wandb_tags", list(tags))):
            if given:
                raise ValueError(f"{name}={given!r} has no use without wandb; give --wandb, or leave it out")
        return None
    chosen_mode()
    init_timeout_s()
    finish_timeout_s()
    if group == "":
        raise ValueError("wandb_group='' is not allowed: give a name")
    for tag in tags:
        if not 0 < len(tag) <= _MAX_TAG:
            raise ValueError(f"wandb_tags: {tag!r} is not allowed: a tag has 1 to {_MAX_TAG} characters")
    if wandb is True:
        return WandbOptions(group=group, tags=tags)
    if Path(wandb).is_file() or Path(wandb, "meta.json").is_file():
        raise ValueError(
            f"wandb={wandb!r} is not allowed: this is a file or run folder, not a project of W&B; write --wandb=true, or "
            "--wandb behind all others"
        )
    entity, slash, project = wandb.rpartition("/")
    bad = [letter for letter in _NOT_IN_PROJECT if letter in entity + project]
    if not project or bool(slash) != bool(entity) or bad or len(project) > _MAX_PROJECT:
        raise ValueError(
            f"wandb={wandb!r} is not allowed: give true, PROJECT or ENTITY/PROJECT (at most {_MAX_PROJECT} characters, "
            f"none of {' '.join(_NOT_IN_PROJECT)})"
        )
    return WandbOptions(project, entity or None, group, tags)


def chosen_mode() -> str | None:
    """Mode that the environment asks for; None where it does not say.

    Raises:
        ValueError: if WANDB_MODE holds none of `MODES`.
    """
    given = os.environ.get("WANDB_MODE") or None
    mode = _OLD_MODES.get(given, given) if given else None
    if mode is not None and mode not in MODES:
        raise ValueError(f"WANDB_MODE={given!r} in the environment is not allowed: it is one of {', '.join(MODES)}")
    return mode


def init_timeout_s() -> float:
    """Seconds that a run may wait for W&B's server when it begins.

    Raises:
        ValueError: if WANDB_INIT_TIMEOUT is no number above 0.
    """
    return _seconds("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT_S)


def finish_timeout_s() -> float:
    """Seconds that a run may take to upload what is left when it ends; what remains is on the disk.

    Raises:
        ValueError: if WANDB_FINISH_TIMEOUT is no number above 0.
    """
    return _seconds("WANDB_FINISH_TIMEOUT", _FINISH_TIMEOUT_S)


def has_key() -> bool:
    """Whether W&B's server would know the user: by the environment, or by what ``wandb login`` left in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(_server()).netloc
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(Path(path).expanduser()).authenticators(host) is not None:
                return True
        except (OSError, RuntimeError, netrc.NetrcParseError):
            continue
    return False


def with_bare_switch(arguments: Sequence[str], switch: str = "--wandb") -> list[str]:
    """Write ``--wandb`` without a value behind it as ``--wandb=true``."""
    behind = [*arguments, "--"][1:]
    return [f"{one}=true" if one == switch and after.startswith("-") else one for one, after in zip(arguments, behind)]


def _server() -> str:
    """The server's address, as wandb finds it: the environment, then the settings of ``wandb login --host``."""
    if given := os.environ.get("WANDB_BASE_URL"):
        return given
    settings = configparser.ConfigParser(interpolation=None)
    try:
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
        settings.read(folder / "settings", encoding="utf-8")
        return settings.get("default", "base_url", fallback=_CLOUD)
    except (OSError, RuntimeError, UnicodeDecodeError, configparser.Error):
        return _CLOUD


def _seconds(variable: str, default: float) -> float:
    given = os.environ.get(variable)
    try:
        seconds = float(given) if given else default
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{variable}={given!r} in the environment is not allowed: give seconds above 0")
    return seconds

"""The batch scripts of ``slurm/``: where they are, and the copies that are submitted."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import vkdnw_pl

_PREFIXES = ("VKDNW_", "SBATCH_")
_CHOOSE_PYTHON = ("VKDNW_PYTHON", "VKDNW_VENV", "VKDNW_CONDA", "VKDNW_CONTAINER")
_OF_A_JOB = ("VKDNW_SLURM_DIR", "VKDNW_SITE_ENV")
_HEAD = "# From the launcher:"


class SiteError(ValueError):
    """``site.env`` cannot be read."""


def scripts_folder() -> Path:
    """The folder ``slurm/``: beside the package in a checkout, else where the installation put it.

    Raises:
        FileNotFoundError: if it is in neither.
    """
    beside = Path(vkdnw_pl.__file__).resolve().parents[1] / "slurm"
    if (beside / "common.sh").is_file():
        return beside
    try:
        files = metadata.files("vkdnw_pl") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("slurm", "common.sh"):
            return Path(str(file.locate())).resolve().parent
    raise FileNotFoundError(
        f"the batch scripts are not installed: there is no {beside}, and none that came with vkdnw_pl"
    )


def site_file() -> Path:
    """The ``site.env`` that counts: that of VKDNW_SITE_ENV, of ``slurm/`` here, or of the scripts.

    Raises:
        SiteError: if VKDNW_SITE_ENV names no file.
    """
    named = os.environ.get("VKDNW_SITE_ENV")
    if named:
        if not Path(named).is_file():
            raise SiteError(f"VKDNW_SITE_ENV={named!r}: there is no such file")
        return Path(named)
    here = Path("slurm/site.env")
    return here if here.is_file() else scripts_folder() / "site.env"


def site_values(file: Path) -> dict[str, str]:
    """The values of a ``site.env``; those of the environment win.

    Raises:
        SiteError: if bash cannot read it.
    """
    if not file.is_file():
        return _ours(os.environ)
    try:
        done = subprocess.run(
            ["bash", "-euc", 'set -a; . "$1" >&2; env -0', "bash", str(file.resolve())],
            capture_output=True,
            text=True,
            errors="surrogateescape",
        )
    except FileNotFoundError as error:
        raise SiteError(f"{file} cannot be read: there is no bash") from error
    if done.returncode != 0:
        raise SiteError(f"{file} cannot be read: {' '.join(done.stderr.split())}")
    lines = (line.partition("=") for line in done.stdout.split("\0"))
    return {**_ours({name: value for name, _, value in lines}), **_ours(os.environ)}


def more_options(site: Mapping[str, str]) -> list[str]:
    """The options of sbatch that ``VKDNW_SBATCH`` holds.

    Raises:
        SiteError: if its quotes are not closed.
    """
    text = site.get("VKDNW_SBATCH", "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SiteError(f"VKDNW_SBATCH={text!r} cannot be read: {error}") from error


def is_copy(script: Path) -> bool:
    """Whether a script was put there by the launcher."""
    return _HEAD in script.read_text(encoding="utf-8", errors="replace")


def job_environment(site: Mapping[str, str]) -> dict[str, str]:
    """What a job must know of this environment besides ``site.env``."""
    values = {name: value for name, value in _ours(os.environ).items() if name.startswith("VKDNW_")}
    values = {name: value for name, value in values.items() if name not in _OF_A_JOB}
    if not any(site.get(name) for name in _CHOOSE_PYTHON):
        values["VKDNW_PYTHON"] = sys.executable
    return values


def script_text(name: str, environment: Mapping[str, str]) -> str:
    """A script as it is submitted: that of ``slurm/``, with variables set after the options of sbatch at its head."""
    lines = (scripts_folder() / name).read_text(encoding="utf-8").splitlines()
    place = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    exports = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
    return "\n".join([*lines[:place], _HEAD, *exports, "", *lines[place:], ""])


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_PREFIXES)}

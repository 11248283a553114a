"""The record of where and with what software a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import vkdnw_pl

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy", "scipy", "scikit-learn", "timm")


def environment_record() -> dict[str, Any]:
    """Versions, commit, host and processor of this process, JSON-able. Imports none of the packages."""
    return {
        "versions": {"vkdnw_pl": vkdnw_pl.__version__, "python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu(),
    }


def device_record(device: str) -> dict[str, Any]:
    """What the scores are computed on: ``cpu``, or ``cuda`` with the cards' names and the CUDA version."""
    if device == "cpu":
        return {"kind": "cpu"}
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"kind": device, "names": names, "cuda": torch.version.cuda}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Commit of the checkout that this package runs from, with ``+changes`` where files differ from it."""
    here = Path(vkdnw_pl.__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None  # an installed package; a repository further up would be another project's
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changes = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or str(os.cpu_count())

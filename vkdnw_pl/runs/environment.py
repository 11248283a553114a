"""The machine: the record of where and with what software a run was made, and the CPU cores that may be used."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import vkdnw_pl
from vkdnw_pl.errors import shown

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy", "scipy", "scikit-learn", "timm")
_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


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


def usable_cores() -> int:
    """CPU cores that this process may use: those it is bound to, or its container's or SLURM's share if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm_share = os.environ.get("SLURM_CPUS_PER_TASK", "")  # which not every cluster binds a task to
    shares = [_container_share(), int(slurm_share) if slurm_share.isdecimal() else None]
    return max(1, min([cores, *(share for share in shares if share is not None)]))


@cache
def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 40
    with suppress(OSError, ValueError):  # no such file, or "max"
        memory = min(memory, int(_CGROUP_V2.with_name("memory.max").read_text()))
    return memory


def check_memory(name: str, value: object, num_bytes: float, what: str) -> None:
    """Refuse an option because of which ``what`` would take more memory than there is, before any of it is taken.

    Raises:
        ValueError: naming the option, the value and what is allowed.
    """
    if num_bytes > usable_memory():
        raise ValueError(
            f"{name}={shown(value)} is not allowed: {what} would take {_gigabytes(num_bytes)}, and this machine has "
            f"{_gigabytes(usable_memory())} of memory; give less"
        )


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.0f} GB" if num_bytes < 1e18 else "more than a billion GB"


def _container_share() -> int | None:
    try:
        if _CGROUP_V2.is_file():
            quota, period = _CGROUP_V2.read_text().split()
        else:
            quota = (_CGROUP_V1 / "cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP_V1 / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return None
    return None if quota in ("max", "-1") else int(quota) // int(period)


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _commit() -> str | None:
    """Commit of the checkout that this package runs from, with ``+changes`` where files differ from it."""
    package = Path(vkdnw_pl.__file__).resolve().parent
    if not (package.parent / ".git").exists():
        return None  # an installed package; a repository further up would be another project's
    try:
        commit = _git(package, "rev-parse", "HEAD")
        changes = _git(package, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or str(os.cpu_count())

"""How many CPU cores there are to use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def usable_cores() -> int:
    """CPU cores that this process may use: those it is bound to, or its container's or SLURM's share if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [int(share) for share in (_container_share(), _slurm_share()) if share is not None]
    return max(1, min([cores, *shares]))


def _slurm_share() -> int | None:
    """Cores of a task of a SLURM job, which not every cluster binds to them."""
    share = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(share) if share.isdecimal() else None


def _container_share() -> float | None:
    try:
        if _CGROUP_V2.is_file():
            quota, period = _CGROUP_V2.read_text().split()
        elif (_CGROUP_V1 / "cpu.cfs_quota_us").is_file():
            quota = (_CGROUP_V1 / "cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP_V1 / "cpu.cfs_period_us").read_text().strip()
        else:
            return None
    except OSError:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)

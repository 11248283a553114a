"""How many CPU cores there are to use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def usable_cores() -> int:
    """CPU cores that this process may use: those it is bound to, or its container's share if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _container_share()
    return max(1, cores if share is None else min(cores, int(share)))


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

"""A limit of multiply-adds that decides which architectures are scored."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vkdnw_pl.oracles import cache_dir
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.spaces import Space

_KEEP_AFTER_S = 2.0
_REPORT_EVERY_S = 5.0


class MacsLimit:
    """Says whether an architecture has at most so many multiply-adds per image.

    They are counted at the space's own size of images (224 pixels in ``mbv2`` and ``timm_zoo``, 32 in ``nb201``), where
    budgets are stated, whatever size the architectures are scored at. An architecture that cannot be built there is not
    within the limit.

    Where counting takes long, because networks must be built for it, the counts are kept in the cache folder.

    Args:
        max_macs: the limit.
        space: of the architectures.
        network: options of its networks.
        quiet: do not say that counting goes on.
    """

    def __init__(self, max_macs: float, space: Space, network: Mapping[str, Any], quiet: bool = False) -> None:
        self.max_macs = max_macs
        self.space = space
        self.network = {name: value for name, value in network.items() if name != "image_size"}
        self.quiet = quiet
        self.uncounted: dict[str, str] = {}
        """Architectures that could not be counted, and why."""
        key = json.dumps([space.key, self.network, version("timm"), version("torch")], sort_keys=True)
        self._file = cache_dir() / "macs" / f"{space.key}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        self._known = _read(self._file)
        self._counted = 0
        self._seconds = 0.0
        self._reported_at = time.monotonic()

    def __call__(self, arch: str) -> bool:
        if arch not in self._known:
            began_at = time.monotonic()
            try:
                self._known[arch] = self.space.cost(arch, **self.network).macs
            except ValueError as error:
                self._known[arch] = str(error)
            self._seconds += time.monotonic() - began_at
            self._counted += 1
            self._report()
        macs = self._known[arch]
        if isinstance(macs, str):
            self.uncounted[arch] = macs
            return False
        return macs <= self.max_macs

    def keep(self) -> None:
        """Keep the counts for the next run, if they took long."""
        if self._seconds > _KEEP_AFTER_S:
            with contextlib.suppress(OSError):  # only the next start is slower for it
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._file, json.dumps(self._known, indent=0) + "\n")

    def _report(self) -> None:
        now = time.monotonic()
        if not self.quiet and self._seconds > _KEEP_AFTER_S and now - self._reported_at > _REPORT_EVERY_S:
            print(f"counting MACs: {self._counted} architectures so far", file=sys.stderr, flush=True)
            self._reported_at = now


def _read(path: Path) -> dict[str, int | str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

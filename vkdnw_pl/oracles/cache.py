"""Where downloaded and derived tables lie."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder, which need not exist yet.

    ``$VKDNW_CACHE``, else ``$XDG_CACHE_HOME/vkdnw_pl``, else ``~/.cache/vkdnw_pl``.
    """
    if own := os.environ.get("VKDNW_CACHE"):
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that a relative path is invalid and to be ignored.
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "vkdnw_pl"

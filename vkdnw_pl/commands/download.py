"""The command ``download``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vkdnw_pl.errors import user_input
from vkdnw_pl.oracles import DOWNLOADS, TABLES, cache_dir
from vkdnw_pl.oracles.fetch import FetchError, fetch
from vkdnw_pl.runs.folder import check_out

if TYPE_CHECKING:
    What = str
else:
    What = Literal[tuple(DOWNLOADS)]


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Options of ``download``."""

    what: What = field(metadata={"help": " ".join(f"{name}: {table.CONTENTS}." for name, table in DOWNLOADS.items())})
    """Table to fetch."""
    out: Path | None = None
    """Folder for the files. Default: the cache folder ($VKDNW_CACHE, else $XDG_CACHE_HOME/vkdnw_pl, else
    ~/.cache/vkdnw_pl), where score and evaluate find them."""
    base_url: str | None = None
    """Address of a mirror that has the files. Default: their public address."""
    force: bool = False
    """Fetch the files anew even if they are there and right."""


def download(options: DownloadOptions) -> int:
    """Fetch and verify public accuracy tables.

    Files that are already there and right are left alone, so that the next call goes on after an interruption.

    Returns:
        0 if every file is there and right, 1 if one could not be fetched.
    """
    what, out = options.what, options.out
    folder = cache_dir() / what if out is None else out.expanduser()
    check_out(folder)
    source = DOWNLOADS[what]
    base = (source.BASE_URL if options.base_url is None else options.base_url).rstrip("/") + "/"
    files = source.FILES.values()
    try:
        for file in files:
            with user_input():
                fetched = fetch(base + file.name, folder / file.name, file.sha256, force=options.force)
            print(f"{folder / file.name}: {'fetched and verified' if fetched else 'already there and right'}")
    except FetchError as error:
        print(f"download failed: {error}", file=sys.stderr)
        later = [table.name for table in files if table != file and not (folder / table.name).is_file()]
        if later:
            print(f"also still to be fetched, from the same place: {', '.join(later)}", file=sys.stderr)
        return 1
    path_option = "" if out is None else f" --oracle_path {shlex.quote(str(out))}"
    print(f"use them with: --space {TABLES[what]} --oracle {what}{path_option}")
    return 0

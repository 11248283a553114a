"""The command ``download``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Literal

from vkdnw_pl.errors import user_input
from vkdnw_pl.oracles import nb201_json, timm_results
from vkdnw_pl.oracles.cache import cache_dir
from vkdnw_pl.oracles.fetch import FetchError, fetch

_SOURCES = {"nb201": nb201_json, "timm": timm_results}


def download(
    what: Literal["nb201", "timm"], out: Path | None = None, base_url: str | None = None, force: bool = False
) -> int:
    """Fetch and verify public accuracy tables.

    An interrupted download is continued by the next call; files that are already there and right are left alone.

    Args:
        what: nb201: test accuracies of all 15,625 NAS-Bench-201 architectures on CIFAR-10, CIFAR-100 and
            ImageNet16-120 (three JSON files, 8 MB). timm: accuracies of timm's models on ImageNet-1k, on the same images with
            reassessed labels, and on ImageNetV2 (three CSV files, 0.4 MB).
        out: Folder for the files. Default: the cache folder ($VKDNW_CACHE, else $XDG_CACHE_HOME/vkdnw_pl, else
            ~/.cache/vkdnw_pl), where score and evaluate find them.
        base_url: Address of a mirror that has the files. Default: their public address.
        force: Fetch the files anew even if they are there and right.

    Returns:
        0 if every file is there and right, 1 if one could not be fetched, 130 after Ctrl-C.

    Raises:
        UsageError: if ``base_url`` is not an http or https address.
    """
    folder = cache_dir() / what if out is None else out.expanduser()
    source = _SOURCES[what]
    base = (source.BASE_URL if base_url is None else base_url).rstrip("/") + "/"
    files = source.FILES.values()
    try:
        for file in files:
            path = folder / file.name
            with user_input():
                fetched = fetch(base + file.name, path, file.sha256, force=force)
            print(f"{path}: {'fetched and verified' if fetched else 'already there and right'}")
    except FetchError as error:
        print(f"download failed: {error}", file=sys.stderr)
        if others := [other.name for other in files if other != file and not (folder / other.name).is_file()]:
            print(f"also still to be fetched, from the same place: {', '.join(others)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    place = "" if out is None else f" --oracle_path {shlex.quote(str(out))}"
    space = "" if what == "nb201" else " --space timm_zoo"
    print(f"use them with:{space} --oracle {what}{place}")
    return 0

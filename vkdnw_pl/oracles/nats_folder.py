"""Folders of NATS-Bench, and accuracies read from one kept as a small CSV file: reading all its records takes minutes."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from vkdnw_pl.oracles.base import cache_dir
from vkdnw_pl.oracles.csv_file import accuracies
from vkdnw_pl.runs.csv_table import CsvTable, read_csv
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.spaces import Space

META = "meta.pickle.pbz2"


def find_folder(folder: Path | None, name: str, oracle: str) -> Path:
    """Return the benchmark's folder ``name``: ``folder`` itself or what it contains; None for the cache folder."""
    folder = cache_dir() if folder is None else folder
    if (folder / META).is_file():
        return folder
    inside = folder / name
    if not (inside / META).is_file():
        raise ValueError(
            f"oracle={oracle!r} needs the folder {name} with {META} and one file per architecture; looked in {folder} and "
            f"{inside}. Download it as github.com/D-X-Y/NATS-Bench says and give its place with oracle_path"
        )
    return inside


def kept_accuracies(
    folder: Path, prefix: str, space: Space, read: Callable[[Path], str]
) -> Mapping[str, dict[str, float]]:
    """Data set -> architecture -> accuracy in percent, from the CSV text that ``read`` makes of the folder.

    The text is kept in the cache folder for as long as no file of the benchmark changes.
    """
    kept = cache_dir() / "nats" / f"{prefix}_{_fingerprint(folder)}.csv"
    if kept.is_file():
        return accuracies(read_csv(kept, ("arch",)), space)
    text = read(folder)
    tables = accuracies(CsvTable(text, str(folder)), space)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, text)
    except OSError as error:  # only the next start is slower for it
        print(f"the accuracies read from NATS-Bench could not be kept in {kept}: {error}", file=sys.stderr)
    return tables


def file_name(index: int) -> str:
    """Name of the record of an architecture."""
    return f"{index:06d}.pickle.pbz2"


def _fingerprint(folder: Path) -> str:
    """Return a name that changes with any file's name, size or time of change."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.endswith(".pickle.pbz2") and entry.is_file():
                stat = entry.stat()
                digest.update(f"\n{entry.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]

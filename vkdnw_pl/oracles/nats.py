"""NATS-Bench's topology benchmark, read from the folder ``NATS-tss-v1_0-3ffb9-simple``.

The folder is the user's own download (github.com/D-X-Y/NATS-Bench says from where) and is read through the
``nats_bench`` package, which unpickles it: use only a folder whose origin you trust. Unpickling all 15,625 files
takes minutes, so what is needed of them is kept as a small CSV file in the cache folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any

from vkdnw_pl.oracles.base import Oracle, cache_dir, num_archs
from vkdnw_pl.oracles.csv_file import parse_table
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.spaces import NB201

SPACE = NB201.name
FOLDER = "NATS-tss-v1_0-3ffb9-simple"
_META = "meta.pickle.pbz2"
_HP = "200"
_DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
# What unpickling and reading of a damaged or foreign file raises.
_DAMAGE = (
    *(OSError, EOFError, pickle.UnpicklingError, LookupError, ValueError, TypeError, AttributeError, ImportError),
    AssertionError,
)


def load_nats(folder: Path | None) -> Oracle:
    """Load test accuracies after 200 epochs, averaged over the training seeds that there are.

    CIFAR-10 is the benchmark's ``ori-test`` of networks trained on all training images, the other two are ``x-test``.
    ``folder`` is the benchmark's or the one that contains it; None for the cache folder.
    """
    folder = cache_dir() if folder is None else folder
    if not (folder / _META).is_file():
        inside = folder / FOLDER
        if not (inside / _META).is_file():
            raise ValueError(
                f"oracle='nats' needs the folder {FOLDER} with {_META} and one file per architecture; looked in "
                f"{folder} and {inside}. Download it as github.com/D-X-Y/NATS-Bench says and give its place with "
                "oracle_path"
            )
        folder = inside
    kept = cache_dir() / "nats" / f"tss_{_fingerprint(folder)}.csv"
    if kept.is_file():
        tables = parse_table(kept.read_text(encoding="utf-8"), str(kept), NB201())
    else:
        text = _read_benchmark(folder)
        tables = parse_table(text, str(folder), NB201())
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, text)
        except OSError as error:  # only the next start is slower for it
            print(f"the accuracies read from NATS-Bench could not be kept in {kept}: {error}", file=sys.stderr)
    description = (
        f"NATS-Bench in {folder} ({num_archs(tables):,} architectures, test accuracy after {_HP} epochs): "
        f"{', '.join(tables)}; for the embedded table: oracle=digits"
    )
    return Oracle("nats", description, dict.fromkeys(tables, "test"), tables)


def _read_benchmark(folder: Path) -> str:
    """Return the benchmark as CSV text."""
    try:
        from nats_bench import create
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ValueError(
            "oracle='nats' needs the package nats_bench: pip install nats_bench (or pip install -e '.[nats]')"
        ) from error

    try:
        api = create(str(folder), "tss", fast_mode=True, verbose=False)
    except _DAMAGE as error:
        raise ValueError(f"oracle='nats': {folder / _META} is damaged: {error!r}") from error
    missing = [name for name in map(_file_name, range(len(api))) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"oracle='nats': {folder} is incomplete: {len(missing):,} of {len(api):,} files are missing, the first is "
            f"{missing[0]}; unpack the benchmark again"
        )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["arch", *_DATASETS])
    for index in tqdm(range(len(api)), "reading NATS-Bench"):
        try:
            writer.writerow([api.arch(index), *(_accuracy(api, index, dataset) for dataset in _DATASETS)])
        except _DAMAGE as error:
            raise ValueError(f"oracle='nats': {folder / _file_name(index)} is damaged: {error!r}") from error
        api.arch2infos_dict.pop(index)  # the package would hold on to gigabytes
    return out.getvalue()


def _accuracy(api: Any, index: int, dataset: str) -> float:
    info = api.get_more_info(index, dataset, hp=_HP, is_random=False)
    arch = api.arch2infos_dict[index][_HP].arch_str
    if arch != api.arch(index):
        raise ValueError(f"it holds the architecture {arch!r} instead of {api.arch(index)!r}")
    return float(info["test-accuracy"])


def _file_name(index: int) -> str:
    return f"{index:06d}.pickle.pbz2"


def _fingerprint(folder: Path) -> str:
    """Return a name that changes with any file's name, size or time of change."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.endswith(".pickle.pbz2"):
                stat = entry.stat()
                digest.update(f"\n{entry.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]

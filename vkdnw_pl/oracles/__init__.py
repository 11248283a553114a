"""Known accuracies: the embedded table, the public NAS-Bench-201 tables, NATS-Bench, or a CSV file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vkdnw_pl.oracles.base import Oracle, nearest
from vkdnw_pl.oracles.cache import cache_dir
from vkdnw_pl.oracles.csv_file import load_csv
from vkdnw_pl.oracles.digits import load_digits
from vkdnw_pl.oracles.nats import load_nats
from vkdnw_pl.oracles.nb201_json import how_to_get, load_nb201, missing_files
from vkdnw_pl.spaces import NB201

ORACLES = ("auto", "digits", "nb201", "nats")
"""Names that ``load_oracle`` knows; it also takes the path of a CSV file."""


def load_oracle(name: str, oracle_path: str | Path | None = None) -> Oracle:
    """Load known accuracies.

    Args:
        name: ``digits`` for the embedded table; ``nb201`` for the three public NAS-Bench-201 tables; ``nats`` for a
            NATS-Bench folder; ``auto`` for the public tables where they are in the cache folder (or in
            ``oracle_path``) and the embedded one otherwise; or the path of a CSV file with the columns
            ``arch,<data set>...``.
        oracle_path: folder with the public tables or with NATS-Bench, in place of the cache folder.

    Raises:
        ValueError: if the name is not known, the table is missing or damaged, or ``oracle_path`` has no use.
    """
    folder = None if oracle_path is None else Path(oracle_path).expanduser()
    if name == "auto":
        return _load_auto(folder)
    if name == "nb201":
        return load_nb201(_nb201_folder(folder))
    if name == "nats":
        return load_nats(cache_dir() if folder is None else folder)
    if name != "digits" and not name.endswith(".csv"):
        raise ValueError(
            f"oracle={name!r} is not known{nearest(name, ORACLES)} (allowed: {', '.join(ORACLES)} or a file that ends "
            "in .csv)"
        )
    if folder is not None:
        raise ValueError(
            f"oracle_path={str(oracle_path)!r} has no use with oracle={name!r}; leave it out, or choose oracle=nb201 "
            "or nats"
        )
    return load_digits() if name == "digits" else load_csv(Path(name).expanduser(), NB201())


def _load_auto(folder: Path | None) -> Oracle:
    place = _nb201_folder(folder)
    missing = missing_files(place)
    if not missing:
        return load_nb201(place)
    if folder is not None:
        raise ValueError(
            f"oracle_path={str(folder)!r} does not hold the public NAS-Bench-201 tables that oracle='auto' looks for "
            f"there (missing: {', '.join(missing)}); get them with: {how_to_get(folder)}, "
            "leave oracle_path out for the embedded table, or choose oracle=nats for a NATS-Bench folder"
        )
    oracle = load_digits()
    if place.is_dir() and any(place.iterdir()):
        return dataclasses.replace(
            oracle, description=f"{oracle.description} (those in {place} are incomplete, missing: {', '.join(missing)})"
        )
    return oracle


def _nb201_folder(folder: Path | None) -> Path:
    """Return where the public tables are, or would be: the folder itself or its subfolder ``nb201``."""
    if folder is None:
        return cache_dir() / "nb201"
    inside = folder / "nb201"
    return inside if missing_files(folder) and not missing_files(inside) else folder


__all__ = ["ORACLES", "Oracle", "cache_dir", "load_oracle"]

"""Known accuracies: the embedded table, the public NAS-Bench-201 tables, NATS-Bench, timm's results, or a CSV file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vkdnw_pl.oracles.base import Oracle, nearest
from vkdnw_pl.oracles.cache import cache_dir
from vkdnw_pl.oracles.csv_file import load_csv
from vkdnw_pl.oracles.digits import load_digits
from vkdnw_pl.oracles.nats import load_nats
from vkdnw_pl.oracles.nb201_json import how_to_get, load_nb201, missing_files
from vkdnw_pl.oracles.timm_results import how_to_get as timm_how_to_get
from vkdnw_pl.oracles.timm_results import in_cache, load_timm
from vkdnw_pl.spaces import SPACES

TABLES = {"digits": "nb201", "nb201": "nb201", "nats": "nb201", "timm": "timm_zoo"}
"""Name of a table -> the space whose architectures it knows."""

ORACLES = ("auto", *TABLES)
"""Names that ``load_oracle`` knows; it also takes the path of a CSV file."""


def load_oracle(name: str, oracle_path: str | Path | None = None, space: str = "nb201") -> Oracle:
    """Load known accuracies.

    Args:
        name: ``digits`` for the embedded table; ``nb201`` for the three public NAS-Bench-201 tables; ``nats`` for a
            NATS-Bench folder; ``timm`` for timm's ImageNet results; ``auto`` for the public tables where they are in the
            cache folder (or in ``oracle_path``) and, for NAS-Bench-201, the embedded one otherwise; or the path of a CSV
            file with the columns ``arch,<data set>...``.
        oracle_path: folder with the public tables, NATS-Bench or timm's results (or the file of those), in place of the
            cache folder.
        space: name of the space that the architectures must be of.

    Raises:
        ValueError: if the name is not known, the table is of another space, missing or damaged, ``auto`` finds none for
            the space, or ``oracle_path`` has no use.
    """
    oracle = find_oracle(name, oracle_path, space)
    if oracle is None:
        raise ValueError(f"oracle='auto' finds no known accuracies of {space}; {_ways(space)}")
    return oracle


def find_oracle(name: str, oracle_path: str | Path | None = None, space: str = "nb201") -> Oracle | None:
    """Like ``load_oracle``, but None where ``auto`` finds no known accuracies of the space."""
    folder = None if oracle_path is None else Path(oracle_path).expanduser()
    if name == "auto":
        return _load_auto(folder, space)
    if name not in TABLES and not name.endswith(".csv"):
        raise ValueError(
            f"oracle={name!r} is not known{nearest(name, ORACLES)} (allowed: {', '.join(ORACLES)} or a file that ends "
            "in .csv)"
        )
    if TABLES.get(name, space) != space:
        raise ValueError(
            f"oracle={name!r} holds accuracies of {TABLES[name]}, which say nothing about {space}; {_ways(space)}"
        )
    if name == "nb201":
        return load_nb201(_nb201_folder(folder))
    if name == "nats":
        return load_nats(cache_dir() if folder is None else folder)
    if name == "timm":
        return load_timm(folder)
    if folder is not None:
        raise ValueError(
            f"oracle_path={str(oracle_path)!r} has no use with oracle={name!r}; leave it out, or choose oracle=nb201, nats "
            "or timm"
        )
    return load_digits() if name == "digits" else load_csv(Path(name).expanduser(), SPACES[space])


def _ways(space: str) -> str:
    ways = [*(name for name, of in TABLES.items() if of == space), "a CSV file with columns arch,<data set>"]
    public = f"; get timm's with: {timm_how_to_get()}" if "timm" in ways and not in_cache() else ""
    return f"for {space} give {' or '.join(ways)}{public}"


def _load_auto(folder: Path | None, space: str) -> Oracle | None:
    if space == "timm_zoo" and (folder is not None or in_cache()):
        return load_timm(folder)
    if space != "nb201":
        if folder is not None:
            raise ValueError(f"oracle_path={str(folder)!r} has no use with oracle='auto' and {space}; {_ways(space)}")
        return None
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


__all__ = ["ORACLES", "TABLES", "Oracle", "cache_dir", "find_oracle", "load_oracle"]

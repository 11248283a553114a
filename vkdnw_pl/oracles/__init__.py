"""Known accuracies: the embedded table, the public NAS-Bench-201 tables, NATS-Bench, timm's results, or a CSV file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vkdnw_pl.errors import nearest
from vkdnw_pl.oracles import nb201_tables, timm_results
from vkdnw_pl.oracles.base import Oracle, cache_dir, download_command
from vkdnw_pl.oracles.csv_file import load_csv
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.spaces.base import check_imported


class TableSource(NamedTuple):
    """A table that has a name."""

    space: str
    load: Callable[[Path | None], Oracle]
    """Loads it from a folder, by default the cache folder."""
    has_folder: bool = True


_SOURCES = {
    "digits": TableSource(nb201_tables.SPACE, lambda folder: nb201_tables.load_digits(), has_folder=False),
    "nb201": TableSource(nb201_tables.SPACE, nb201_tables.load_nb201),
    "nats": TableSource(nb201_tables.SPACE, nb201_tables.load_nats),
    "timm": TableSource(timm_results.SPACE, timm_results.load_timm),
}
_AUTO = {nb201_tables.SPACE: nb201_tables.load_auto, timm_results.SPACE: timm_results.load_auto}
"""Space -> what ``auto`` loads from a folder or the cache folder, or None."""

TABLES = {name: source.space for name, source in _SOURCES.items()}
"""Name of a table -> the space whose architectures it knows."""

ORACLES = ("auto", *TABLES)
"""Names that ``load_oracle`` knows; it also takes the path of a CSV file."""


def load_oracle(name: str, oracle_path: str | Path | None = None, space: str = "nb201") -> Oracle:
    """Load known accuracies.

    Args:
        name: ``digits`` for the embedded table; ``nb201`` for the three public NAS-Bench-201 tables; ``nats`` for a
            NATS-Bench folder; ``timm`` for timm's ImageNet results; ``auto`` for the public tables where they are in the
            cache folder (or in ``oracle_path``) and, for NAS-Bench-201, the embedded one otherwise; or the path of a CSV
            file with the columns ``arch,<data set>...`` or of a run folder of ``label``.
        oracle_path: folder with the public tables, NATS-Bench or timm's results (or the file of those), in place of the
            cache folder.
        space: name of the space that the architectures must be of.

    Raises:
        ValueError: if there is no such table of the space, it is damaged, or ``oracle_path`` has no use.
    """
    oracle = find_oracle(name, oracle_path, space)
    if oracle is None:
        raise ValueError(f"oracle='auto' finds no known accuracies of {space}; {_choices(space)}")
    return oracle


def find_oracle(name: str, oracle_path: str | Path | None = None, space: str = "nb201") -> Oracle | None:
    """Like ``load_oracle``, but None where ``auto`` finds no known accuracies of the space."""
    folder = None if oracle_path is None else Path(oracle_path).expanduser()
    if name == "auto":
        if space in _AUTO:
            return _AUTO[space](folder)
        if folder is not None:
            raise ValueError(
                f"oracle_path={str(folder)!r} has no use with oracle='auto' and {space}; {_choices(space)}"
            )
        return None
    source = _SOURCES.get(name)
    if source is None and not name.endswith(".csv") and not Path(name).expanduser().is_dir():
        raise ValueError(
            f"oracle={name!r} is not known{nearest(name, ORACLES)} (allowed: {', '.join(ORACLES)}, a file that ends in "
            ".csv, or a run folder of label)"
        )
    if source is not None and source.space != space:
        raise ValueError(
            f"oracle={name!r} holds accuracies of {source.space}, which say nothing about {space}; {_choices(space)}"
        )
    if folder is not None and (source is None or not source.has_folder):
        with_folder = ", ".join(table for table, other in _SOURCES.items() if other.has_folder)
        raise ValueError(
            f"oracle_path={str(oracle_path)!r} has no use with oracle={name!r}; leave it out, or choose oracle="
            f"{' or '.join(with_folder.rsplit(', ', 1))}"
        )
    if source is not None:
        return source.load(folder)
    check_imported(space, "the run folder")  # of an option it is imported already
    return load_csv(Path(name).expanduser(), SPACES[space])


def _choices(space: str) -> str:
    tables = [name for name, source in _SOURCES.items() if source.space == space]
    missing = [name for name in tables if name == "timm" and not timm_results.in_cache()]
    public = "".join(f"; get timm's with: {download_command(name)}" for name in missing)
    return f"for {space} give {' or '.join([*tables, 'a CSV file with columns arch,<data set>'])}{public}"


__all__ = ["ORACLES", "TABLES", "Oracle", "cache_dir", "find_oracle", "load_oracle"]

"""Known accuracies: embedded tables, public ones, NATS-Bench, or a CSV file.

A public table is a module here, with

* ``SPACE``: name of the space whose architectures it knows;
* ``BASE_URL``, ``FILES``: where its files are, and data set (or other key) -> `TableFile`;
* ``CONTENTS``: what they hold and how large they are, for the help of ``download``;
* a function of a folder (None: the cache folder) that makes the `Oracle`, by `base.public_files`;
* perhaps ``load_auto``, where ``auto`` should find it by other means than by the presence of all ``FILES``;

and a line in ``_SOURCES``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vkdnw_pl.errors import nearest
from vkdnw_pl.oracles import autoformer, nasbench_macro, nats_sss, nb201_tables, pit, timm_results
from vkdnw_pl.oracles.base import (
    Measure,
    NotDownloaded,
    Oracle,
    cache_dir,
    download_command,
    missing_files,
    public_folder,
)
from vkdnw_pl.oracles.csv_file import load_csv
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.spaces.base import check_imported


class TableSource(NamedTuple):
    """A table that has a name."""

    space: str
    load: Callable[[Path | None], Oracle]
    """Loads it from a folder, by default the cache folder; an embedded table takes none."""
    public: Any = None
    """The module that says what there is to download; None: nothing."""
    embedded: bool = False
    """Whether it comes with the package."""


_SOURCES = {
    "digits": TableSource(nb201_tables.SPACE, lambda folder: nb201_tables.load_digits(), embedded=True),
    "nb201": TableSource(nb201_tables.SPACE, nb201_tables.load_nb201, nb201_tables),
    "nb201_val": TableSource(nb201_tables.SPACE, nb201_tables.load_nb201_val),
    "nats": TableSource(nb201_tables.SPACE, nb201_tables.load_nats),
    "nasbench_macro": TableSource(nasbench_macro.SPACE, nasbench_macro.load_nasbench_macro, nasbench_macro),
    "sss_digits": TableSource(nats_sss.SPACE, lambda folder: nats_sss.load_sss_digits(), embedded=True),
    "nats_sss": TableSource(nats_sss.SPACE, nats_sss.load_nats_sss),
    "nats_sss_val": TableSource(nats_sss.SPACE, nats_sss.load_nats_sss_val),
    "timm": TableSource(timm_results.SPACE, timm_results.load_timm, timm_results),
    "autoformer": TableSource(autoformer.SPACE, autoformer.load_autoformer, autoformer),
    "pit": TableSource(pit.SPACE, pit.load_pit, pit),
}

TABLES = {name: source.space for name, source in _SOURCES.items()}
"""Name of a table -> the space whose architectures it knows."""

DOWNLOADS = {name: source.public for name, source in _SOURCES.items() if source.public is not None}
"""Name of a table -> the module that says what there is to download."""

NAMES_BY_SPACE = "; ".join(
    f"{space}: {', '.join(name for name, of in TABLES.items() if of == space)}"
    for space in dict.fromkeys(TABLES.values())
)
"""The tables of each space, for the user."""

ORACLES = ("auto", *TABLES)
"""Names that ``load_oracle`` knows; it also takes the path of a CSV file."""


def load_oracle(
    name: str,
    oracle_path: str | Path | None = None,
    space: str = "nb201",
    measures: Mapping[str, str] | None = None,
) -> Oracle:
    """Load known accuracies.

    Args:
        name: a name of ``TABLES``, such as ``digits`` (embedded), ``nb201`` (three public NAS-Bench-201 tables) or ``nats``
            (a NATS-Bench folder); ``auto`` for the first public table of the space that is in the cache folder (or in
            ``oracle_path``), otherwise the embedded one if there is one; or the path of a CSV file with the columns
            ``arch,<data set>...`` or of a run folder of ``label``.
        oracle_path: folder with the files of the table (of timm's results also one file), in place of the cache folder.
        space: name of the space that the architectures must be of.
        measures: of a CSV file, column -> what it holds, see `csv_file.parse_measure`.

    Raises:
        ValueError: if there is no such table of the space, it is damaged, or ``oracle_path`` or ``measures`` has no use.
    """
    oracle = find_oracle(name, oracle_path, space, measures)
    if oracle is None:
        public = any(name in DOWNLOADS for name, of in TABLES.items() if of == space)
        raise (NotDownloaded if public else ValueError)(
            f"oracle='auto' finds no known accuracies of {space}; {_choices(space)}"
        )
    return oracle


def find_oracle(
    name: str,
    oracle_path: str | Path | None = None,
    space: str = "nb201",
    measures: Mapping[str, str] | None = None,
) -> Oracle | None:
    """Like ``load_oracle``, but None where ``auto`` finds no known accuracies of the space."""
    folder = None if oracle_path is None else Path(oracle_path).expanduser()
    if measures and name in ORACLES:
        raise ValueError(
            f"oracle_measures={dict(measures)!r} has no use with oracle={name!r}: it says what the columns of a CSV file hold"
        )
    if name == "auto":
        return _auto(space, folder)
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
    if folder is not None and (source is None or source.embedded):
        with_folder = ", ".join(table for table, other in _SOURCES.items() if not other.embedded)
        raise ValueError(
            f"oracle_path={str(oracle_path)!r} has no use with oracle={name!r}; leave it out, or choose oracle="
            f"{' or '.join(with_folder.rsplit(', ', 1))}"
        )
    if source is not None:
        return source.load(folder)
    check_imported(space, "the run folder")  # of an option it is imported already
    return load_csv(Path(name).expanduser(), SPACES[space], measures)


def _auto(space: str, folder: Path | None) -> Oracle | None:
    """The first public table of the space whose files are there, else, without a folder, the embedded one."""
    sources = {name: source for name, source in _SOURCES.items() if source.space == space}
    missing = {}
    for name, source in sources.items():
        if source.public is None:
            continue
        if hasattr(source.public, "load_auto"):
            oracle: Oracle | None = source.public.load_auto(folder)
            if oracle is not None:
                return oracle
            continue
        where = public_folder(name, source.public.FILES, folder)
        missing[name] = missing_files(source.public.FILES, where)
        if not missing[name]:
            return source.load(folder)
    if folder is not None:
        if not missing:
            raise ValueError(
                f"oracle_path={str(folder)!r} has no use with oracle='auto' and {space}; {_choices(space)}"
            )
        name = next(iter(missing))
        ways_out = [f"get them with: {download_command(name, folder)}"]
        if any(source.embedded for source in sources.values()):
            ways_out.append("leave oracle_path out for the embedded table")
        others = [other for other, source in sources.items() if source.public is None and not source.embedded]
        ways_out += [f"choose oracle={other}" for other in others]
        raise ValueError(
            f"oracle_path={str(folder)!r} does not hold the public table {name!r} that oracle='auto' looks for there "
            f"(missing: {', '.join(missing[name])}); {', or '.join(ways_out)}"
        )
    embedded = [source for source in sources.values() if source.embedded]
    if not embedded:
        return None
    oracle = embedded[0].load(None)
    for name, files in missing.items():
        where = public_folder(name, _SOURCES[name].public.FILES, None)
        if where.is_dir() and any(where.iterdir()):
            note = f"those in {where} are incomplete, missing: {', '.join(files)}"
            oracle = dataclasses.replace(oracle, description=f"{oracle.description} ({note})")
    return oracle


def _choices(space: str) -> str:
    tables = [name for name, source in _SOURCES.items() if source.space == space]
    absent = [
        name
        for name in tables
        if name in DOWNLOADS
        and not any((cache_dir() / name / file.name).is_file() for file in DOWNLOADS[name].FILES.values())
    ]
    public = "".join(f"; get {name} with: {download_command(name)}" for name in absent)
    return f"for {space} give {' or '.join([*tables, 'a CSV file with columns arch,<data set>'])}{public}"


__all__ = [
    "DOWNLOADS",
    "NAMES_BY_SPACE",
    "ORACLES",
    "TABLES",
    "Measure",
    "NotDownloaded",
    "Oracle",
    "cache_dir",
    "find_oracle",
    "load_oracle",
]

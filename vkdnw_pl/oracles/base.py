"""What an oracle is: measured properties of networks, such as test accuracies; and where public tables lie."""

from __future__ import annotations

import os
import shlex
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from vkdnw_pl.errors import nearest, program
from vkdnw_pl.runs.files import sha256_of

PERCENT = "%"
"""Unit of accuracies."""


class NotDownloaded(ValueError):
    """A public table is not on this machine; the text says how to get it."""


@dataclass(frozen=True)
class Oracle:
    """Known accuracies, or other measured properties, of a set of architectures on one or several data sets."""

    name: str
    """Name of the table, such as ``nb201``, or the path of a CSV file."""
    description: str
    """One line for the user: which table this is, and how to get the other."""
    split: Mapping[str, str]
    """Data set -> the images that the values were measured on, such as ``test``."""
    tables: Mapping[str, Mapping[str, float]]
    """Data set -> canonical architecture string -> value, for accuracies in percent. Data sets need not know the same
    architectures: those without a value are left out."""
    space: str = "nb201"
    """Key of the space that the architectures are of; no other space's scores may be compared with them."""
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Data set -> options of the space's networks that were trained on it, where they are not the space's defaults; empty
    where nothing is known of them."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Data set -> unit of its values, such as ``ms``; percent where it is not named."""
    lower_is_better: Collection[str] = ()
    """Data sets whose lower values are the better ones, such as latencies."""
    cautions: Mapping[str, str] = field(default_factory=dict)
    """Data set -> what a user must know before trusting its values; shown with every result."""

    def __post_init__(self) -> None:
        if not self.tables or self.split.keys() != self.tables.keys():
            raise ValueError(
                f"oracle {self.name!r} must have at least one data set and one split for each; it has the data sets "
                f"{list(self.tables)} and splits for {list(self.split)}"
            )
        for what in ("networks", "units", "lower_is_better", "cautions"):
            if others := [dataset for dataset in getattr(self, what) if dataset not in self.tables]:
                raise ValueError(f"oracle {self.name!r}: {what} names {others}, which are none of {list(self.tables)}")
        if empty := [dataset for dataset, table in self.tables.items() if not table]:
            raise ValueError(f"oracle {self.name!r} knows no architecture on {', '.join(empty)}")

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(self.tables)

    @property
    def archs(self) -> list[str]:
        """Canonical architecture strings that some data set knows, in the order of the tables."""
        return list(dict.fromkeys(arch for table in self.tables.values() for arch in table))

    def measure(self, dataset: str) -> Measure:
        """What the values of a data set are."""
        self._check(dataset)
        return Measure(
            dataset, self.split[dataset], self.units.get(dataset, PERCENT), dataset not in self.lower_is_better
        )

    def only(self, datasets: Iterable[str]) -> Oracle:
        """The same with some of its data sets."""
        names = list(datasets)
        parts: dict[str, Any] = {
            what: {dataset: getattr(self, what)[dataset] for dataset in names if dataset in getattr(self, what)}
            for what in ("split", "tables", "networks", "units", "cautions")
        }
        return replace(self, lower_is_better=[name for name in names if name in self.lower_is_better], **parts)

    def network(self, dataset: str) -> dict[str, Any]:
        """Options of the space's networks that were trained on a data set; empty: its defaults."""
        if dataset not in self.networks:
            known = ", ".join(["auto", *self.networks])
            raise ValueError(
                f"network={dataset!r} is not allowed: with the oracle {self.name!r} give {known}, or options such as "
                "'{num_classes: 10, image_size: 32}'"
            )
        return dict(self.networks[dataset])

    def coverage(self, archs: Sequence[str]) -> list[str]:
        """A text where values of some of ``archs`` are not known; one for each data set where these differ."""
        counts = {dataset: sum(arch in table for arch in archs) for dataset, table in self.tables.items()}
        partial = {dataset: known for dataset, known in counts.items() if known < len(archs)}
        whose = {"": next(iter(partial.values()))} if len(set(counts.values())) == 1 and partial else partial
        return [
            f"{f'values of {dataset}' if dataset else 'accuracies'} are known for {known} of the {len(archs)} "
            "architectures; metrics are of these alone"
            for dataset, known in whose.items()
        ]

    @property
    def warnings(self) -> list[str]:
        """The cautions, each once, with all data sets that it holds for."""
        datasets: dict[str, list[str]] = {}
        for dataset, caution in self.cautions.items():
            datasets.setdefault(caution, []).append(dataset)
        return [f"{', '.join(of)}: {caution}" for caution, of in datasets.items()]

    def doubts(self) -> list[str]:
        """The cautions, and a text for each data set whose accuracies look like fractions."""
        percents = {dataset: table for dataset, table in self.tables.items() if self.measure(dataset).unit == PERCENT}
        medians = {dataset: statistics.median(table.values()) for dataset, table in percents.items()}
        return self.warnings + [
            f"the accuracies on {dataset} look like fractions (their median is {median:g}); they are read as percent"
            for dataset, median in medians.items()
            if median < 1 and self.measure(dataset).higher_is_better
        ]

    def accuracies(self, dataset: str) -> dict[str, float]:
        """Return architecture string -> value; `measure` says its unit and direction, for accuracies percent, higher is
        better."""
        self._check(dataset)
        return dict(self.tables[dataset])

    def _check(self, dataset: str) -> None:
        if dataset not in self.tables:
            raise ValueError(
                f"dataset={dataset!r} is not known to the oracle {self.name!r}{nearest(dataset, self.datasets)} "
                f"(known: {', '.join(self.datasets)})"
            )


@dataclass(frozen=True)
class Measure:
    """What the values of one data set of an oracle are."""

    dataset: str
    split: str
    unit: str = PERCENT
    higher_is_better: bool = True

    @property
    def is_accuracy(self) -> bool:
        """Whether this is a percentage of which more is better: what the gains of nDCG, 2^accuracy - 1, are made for."""
        return self.unit == PERCENT and self.higher_is_better

    @property
    def sign(self) -> int:
        """Factor that makes more of a value better; metrics are computed with it."""
        return 1 if self.higher_is_better else -1

    @property
    def kind(self) -> str:
        """Unit and direction, such as ``ms, lower is better``; empty for accuracies."""
        direction = f"{'higher' if self.higher_is_better else 'lower'} is better"
        return "" if self.is_accuracy else ", ".join(filter(None, [self.unit, direction]))

    @property
    def axis(self) -> str:
        """Label of an axis: ``accuracy (%)``, or the name with unit and direction."""
        return f"{self.dataset} ({self.kind})" if self.kind else f"accuracy ({PERCENT})"

    @property
    def details(self) -> str:
        """Split and, but for accuracies, unit and direction: ``test``, ``val, nat, lower is better``."""
        return ", ".join(filter(None, [self.split, self.kind]))

    @property
    def title(self) -> str:
        """Head of a table or panel: ``cifar10 (test)``."""
        return f"{self.dataset} ({self.details})" if self.details else self.dataset

    @property
    def key(self) -> str:
        """Name of the values among others: ``accuracy/cifar10``, ``value/latency (ms)``."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"accuracy/{self.dataset}" if self.is_accuracy else f"value/{self.dataset}{unit}"

    def text(self, value: float) -> str:
        """A value for the user, with its unit: ``93.76 %``."""
        number = f"{value:.2f}" if self.unit == PERCENT else f"{value:.5g}"
        return f"{number} {self.unit}".strip()

    def best(self, values: Iterable[float]) -> float:
        """The best of some values."""
        return max(values) if self.higher_is_better else min(values)


def num_archs(tables: Mapping[str, Mapping[str, float]]) -> int:
    """Number of architectures that an oracle's tables know."""
    return len(set().union(*tables.values()))


def of_networks(values: Mapping[str, float], canonicalise: Callable[[str], str]) -> dict[str, float]:
    """Architecture as ``canonicalise`` (of the space) gives it -> value: several strings of one network count once.

    The canonical string's own value is taken where it is known, else that of the last other one.
    """
    networks = {canonicalise(arch): value for arch, value in values.items()}
    return {arch: values.get(arch, value) for arch, value in networks.items()}


class TableFile(NamedTuple):
    """One file of a public table."""

    name: str
    sha256: str


def public_folder(what: str, files: Mapping[str, TableFile], folder: Path | None) -> Path:
    """Where the files of a public table are, or would be: the folder or its subfolder ``what``; None: the cache folder's."""
    if folder is None:
        return cache_dir() / what
    inside = folder / what
    return inside if missing_files(files, folder) and not missing_files(files, inside) else folder


def missing_files(files: Mapping[str, TableFile], folder: Path) -> list[str]:
    """Names of the files of a public table that ``folder`` lacks."""
    return [file.name for file in files.values() if not (folder / file.name).is_file()]


def public_files(
    what: str, files: Mapping[str, TableFile], folder: Path | None, oracle: str | None = None
) -> dict[str, Path]:
    """Key -> file of a public table; ``oracle`` is what the user calls it, by default ``what``.

    ``folder`` has the files, or a subfolder ``what`` of them; None for the cache folder. ValueError if a file is missing
    or is not, byte for byte, the published one.
    """
    folder, oracle = public_folder(what, files, folder), oracle or what
    if missing := missing_files(files, folder):
        raise NotDownloaded(
            f"oracle={oracle!r} needs {', '.join(file.name for file in files.values())} in the folder {folder}; missing: "
            f"{', '.join(missing)}; get them with: {download_command(what, folder)}"
        )
    paths = {key: folder / file.name for key, file in files.items()}
    for key, path in paths.items():
        # The hash covers everything that could be checked: number, spelling and order of the keys, and every value.
        if (sha256 := sha256_of(path)) != files[key].sha256:
            raise ValueError(
                f"oracle={oracle!r}: {path} is damaged or another file: its SHA-256 is {sha256}, that of the published "
                f"file {files[key].sha256}; get it with: {download_command(what, folder)} (a table of your own can be "
                "given as oracle=FILE.csv)"
            )
    return paths


def cache_dir() -> Path:
    """Return the folder of downloaded and derived tables, which need not exist yet.

    ``$VKDNW_CACHE``, else ``$XDG_CACHE_HOME/vkdnw_pl``, else ``~/.cache/vkdnw_pl``.
    """
    if folder := os.environ.get("VKDNW_CACHE"):
        return Path(folder).expanduser().absolute()
    xdg_cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that a relative path is invalid and to be ignored.
    return (xdg_cache if xdg_cache.is_absolute() else Path.home() / ".cache") / "vkdnw_pl"


def download_command(what: str, folder: Path | None = None) -> str:
    """Return the command that brings the files of a public table to ``folder``, by default the cache folder."""
    out = "" if folder in (None, cache_dir() / what) else f" --out {shlex.quote(str(folder))}"
    return f"{program()} download {what}{out}"

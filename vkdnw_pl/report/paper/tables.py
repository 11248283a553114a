"""The paper's tables: their rows and columns (``tables.yaml``) and the numbers that it prints (``*.csv``).

The set of networks (``variant``) is ``unique`` for the 9,445 structures of the paper's tables, and ``all`` for the 15,625
networks of its supplement.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import yaml

from vkdnw_pl.errors import check_choice

PAPER_SPACE = "nb201"
"""Space of all tables."""
ACCURACY = "accuracy"
ALL_METRICS = ("kendall", "spearman", "ndcg")
VARIANTS = {"unique": "9445", "all": "15625"}
"""Variant -> how the files write it: the number of networks that it ranks."""

Key = tuple[str, str, str]
"""(row, column, metric)."""


@dataclass(frozen=True)
class PaperRow:
    """A row of a table."""

    key: str
    label: str
    ranking: str | Mapping[str, str]
    """Ranking expression (`vkdnw_pl.ranking.parse_ranking`), the same for every column or one for each; of a learned row
    the name of a model-driven ranking."""
    kind: str = ""
    """S (single) or A (aggregated), as the paper marks its rows."""
    learned: bool = False
    real_images: bool = False
    """Whether the paper's scores saw real images of the data set."""
    ours: bool = False
    """Not in the paper."""

    def ranking_for(self, column: str) -> str:
        """The ranking in one column."""
        return self.ranking if isinstance(self.ranking, str) else self.ranking[column]


@dataclass(frozen=True)
class PaperColumn:
    """A column of a table (with several metrics below it)."""

    key: str
    label: str
    dataset: str
    """Data set whose accuracies the rankings are compared with."""
    target: str = ACCURACY
    """What a ranking is compared with: the accuracy, or a column of the score table."""

    @property
    def compared_with(self) -> str:
        """The ``dataset`` of the metric rows that belong here."""
        return self.dataset if self.target == ACCURACY else self.target


@dataclass(frozen=True)
class PaperTable:
    """A table or figure."""

    name: str
    title: str
    rows: tuple[PaperRow, ...]
    columns: tuple[PaperColumn, ...]
    metrics: tuple[str, ...] = ALL_METRICS
    decimals: int = 3
    """Digits that the paper prints."""

    def rankings(self) -> dict[str, bool]:
        """Every ranking that the table needs, in order -> whether it is model-driven."""
        return {row.ranking_for(column.key): row.learned for row in self.rows for column in self.columns}


@dataclass(frozen=True)
class PaperValue:
    """A printed number and where it stands."""

    value: float
    source: str


def _read_tables() -> dict[str, PaperTable]:
    text = (resources.files(__package__) / "tables.yaml").read_text(encoding="utf-8")
    tables = {}
    for name, fields in yaml.safe_load(text).items():
        rows = tuple(PaperRow(**row) for row in fields.pop("rows"))
        columns = tuple(PaperColumn(**{"dataset": column["key"], **column}) for column in fields.pop("columns"))
        metrics = tuple(fields.pop("metrics", ALL_METRICS))
        tables[name] = PaperTable(name, rows=rows, columns=columns, metrics=metrics, **fields)
    return tables


PAPER_TABLES: dict[str, PaperTable] = _read_tables()
"""Every table and figure that can be compared, by the name that its numbers have."""

PAPER_CHOICES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in PAPER_TABLES if not name.startswith("robustness")},
    "robustness": tuple(name for name in PAPER_TABLES if name.startswith("robustness")),
}
"""What ``evaluate --paper`` takes -> the tables that it makes."""


def paper_values(table: str, variant: str = "unique") -> Mapping[Key, PaperValue]:
    """All numbers of a table: (row, column, metric) -> value, in the order of the paper.

    Args:
        table: a name of `PAPER_TABLES`, or ``table2``, which has numbers alone.
        variant: ``unique`` or ``all``; a table that exists only for one set of networks (``table2``, ``fig2``) is the
            same for both.

    Raises:
        ValueError: if the table or the variant is not known, or the table has no numbers for it.
    """
    check_choice("variant", variant, VARIANTS)
    check_choice("table", table, dict.fromkeys(name for name, _ in _numbers()))
    by_variant = {written: values for (name, written), values in _numbers().items() if name == table}
    if not set(by_variant) & set(VARIANTS.values()):
        return next(iter(by_variant.values()))
    if VARIANTS[variant] not in by_variant:
        printed = ", ".join(name for name, written in VARIANTS.items() if written in by_variant)
        raise ValueError(f"the paper has no {table} for variant={variant!r} (it has: {printed})")
    return by_variant[VARIANTS[variant]]


@functools.cache
def _numbers() -> dict[tuple[str, str], dict[Key, PaperValue]]:
    """(table, variant as written) -> its numbers."""
    numbers: dict[tuple[str, str], dict[Key, PaperValue]] = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".csv"):
            for line in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))):
                values = numbers.setdefault((line["table"], line["variant"]), {})
                key = (line["row"], line["column"], line["metric"])
                values[key] = PaperValue(float(line["value"]), line["source"])
    return numbers

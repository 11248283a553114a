"""The embedded table: NAS-Bench-201 cells that this project trained on scikit-learn's handwritten digits."""

from __future__ import annotations

from importlib.resources import files

from vkdnw_pl.oracles.base import Oracle
from vkdnw_pl.oracles.csv_file import parse_table
from vkdnw_pl.spaces import NB201

TABLE = files("vkdnw_pl.oracles").joinpath("tables", "nb201_digits.csv")


def load_digits() -> Oracle:
    """Load the table that comes with the package: data set ``digits``, mean test accuracy over training seeds.

    Raises:
        ValueError: if the installation lacks the table.
    """
    if not TABLE.is_file():
        raise ValueError(f"oracle='digits': the installation is incomplete, {TABLE} is missing; install vkdnw_pl again")
    tables = parse_table(TABLE.read_text(encoding="utf-8"), str(TABLE), NB201())
    num_archs = len(next(iter(tables.values())))
    return Oracle(
        name="digits",
        description=(
            f"embedded table nb201_digits ({num_archs:,} NAS-Bench-201 cells trained by this project on handwritten "
            "digits, test accuracy); for CIFAR-10, CIFAR-100 and ImageNet16-120: python -m vkdnw_pl download nb201, "
            "then oracle=nb201"
        ),
        split=dict.fromkeys(tables, "test"),
        tables=tables,
    )

"""What the rows and columns of the paper's tables are in this toolkit: which ranking stands for which row."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

CIFAR10, CIFAR100, IMAGENET16 = "cifar10", "cifar100", "ImageNet16-120"
ALL_METRICS = ("kendall", "spearman", "ndcg")
ACCURACY = "accuracy"


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    ``ranking`` is a ranking expression (`vkdnw_pl.ranking.parse_ranking`), the same for every column or one for each,
    or the name of a model-driven ranking, whose metrics another module computes; None where there is no counterpart.
    """

    key: str
    label: str
    ranking: str | Mapping[str, str] | None
    kind: str = ""
    """S (single) or A (aggregated), as the paper marks its rows."""
    learned: bool = False
    real_images: bool = False
    """Whether the paper's scores saw real images of the data set."""
    ours: bool = False
    """Not in the paper."""

    def ranking_for(self, column: str) -> str | None:
        """The ranking in one column."""
        return self.ranking if self.ranking is None or isinstance(self.ranking, str) else self.ranking[column]


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
        return {
            ranking: row.learned
            for row in self.rows
            for column in self.columns
            if (ranking := row.ranking_for(column.key)) is not None
        }


_DATASETS = (
    PaperColumn(CIFAR10, "CIFAR-10", CIFAR10),
    PaperColumn(CIFAR100, "CIFAR-100", CIFAR100),
    PaperColumn(IMAGENET16, "ImageNet16-120", IMAGENET16),
)

_TABLE1_ROWS = (
    PaperRow("flops", "FLOPs", "macs", "S"),
    PaperRow("grad_norm", "GradNorm", "grad_norm", "S"),
    PaperRow("grasp", "GraSP", "grasp", "S", real_images=True),
    PaperRow("snip", "SNIP", "snip", "S", real_images=True),
    PaperRow("synflow", "SynFlow", "synflow", "S"),
    PaperRow("jacov", "Jacov", "jacov", "S", real_images=True),
    PaperRow("naswot", "NASWOT", "naswot", "S"),
    PaperRow("zen", "ZenNAS", "zen", "S"),
    PaperRow("grad_sign", "GradSign (its own paper)", "grad_sign", "S", real_images=True),
    PaperRow("grad_sign_own", "GradSign (authors' runs)", "grad_sign", "S", real_images=True),
    PaperRow("zico", "ZiCo", "zico", "S", real_images=True),
    PaperRow("te_nas", "TE-NAS", "te_nas", "A", real_images=True),
    PaperRow("az_nas", "AZ-NAS", "az_nas", "A"),
    PaperRow("aleph", "No. of trainable layers (ℵ)", "aleph", "S"),
    PaperRow("vkdnw_single", "VKDNW_single", "vkdnw_single", "S"),
    PaperRow("vkdnw_agg", "VKDNW_agg", "vkdnw_agg", "A", real_images=True),
    PaperRow("vkdnw_plus", "VKDNW_plus (ours)", "vkdnw_plus", "A", ours=True),
    PaperRow("graf", "GRAF", "graf", "A", learned=True),
    PaperRow("vkdnw_m", "VKDNW_m", "vkdnw_m", "A", learned=True),
    PaperRow("vkdnw_zcs_m", "(VKDNW+ZCS)_m", "vkdnw_zcs_m", "A", learned=True, real_images=True),
    PaperRow("vkdnw_zcs_graf_m", "(VKDNW+ZCS+GRAF)_m", "vkdnw_zcs_graf_m", "A", learned=True, real_images=True),
    PaperRow("graf_gb", "GRAF, boosting (ours)", "graf:gradient_boosting", "A", learned=True, ours=True),
    PaperRow(
        "vkdnw_zcs_graf_gb",
        "(VKDNW+ZCS+GRAF), boosting (ours)",
        "vkdnw_zcs_graf_m:gradient_boosting",
        "A",
        learned=True,
        ours=True,
    ),
)

_PARTS = {"V": "aleph>vkdnw", "J": "jacov", "E": "expressivity", "T": "trainability", "F": "macs"}
_SUBSETS = ("".join(some) for size in range(1, 6) for some in itertools.combinations("VJETF", size))

_BATCH_SIZES = (8, 16, 32, 64, 128)
_FIG1_ROWS = (
    *(
        "vkdnw_plus",
        "vkdnw_agg",
        "vkdnw_single",
        "az_nas",
        "zico",
        "synflow",
        "aleph",
        "naswot",
        "flops",
        "jacov",
        "te_nas",
    ),
    *("snip", "grasp", "grad_norm", "zen"),
)
_PROXIES = {
    "vkdnw": "VKDNW",
    "trainability": "trainability",
    "expressivity": "expressivity",
    "progressivity": "progressivity",
}
# Place in the flattened weight -> label of the column vkdnw_<label>; the first entry is what vkdnw takes by default.
_ENTRIES = {"0.0": "", "0.2": "_i1", "0.4": "_i2", "0.6": "_i3", "0.8": "_i4", "1.0": "_i5", "random": "_ir"}
_AGG = "+jacov+expressivity+trainability+macs"


def _by_key(keys: tuple[str, ...]) -> tuple[PaperRow, ...]:
    rows = {row.key: row for row in _TABLE1_ROWS}
    return tuple(rows[key] for key in keys)


_TABLES = (
    PaperTable("table1", "Table 1: training-free NAS methods on NAS-Bench-201", _TABLE1_ROWS, _DATASETS),
    PaperTable(
        "table3",
        "Table 3: all combinations of VKDNW (V), Jacov (J), expressivity (E), trainability (T) and FLOPs (F)",
        tuple(
            PaperRow(subset, " ".join(subset), "+".join(_PARTS[letter] for letter in subset), real_images="J" in subset)
            for subset in _SUBSETS
        ),
        _DATASETS,
    ),
    PaperTable(
        "table4",
        "Table 4: Kendall's tau of the number of trainable layers (ℵ) with each component",
        tuple(PaperRow(name, label, name) for name, label in _PROXIES.items()),
        tuple(PaperColumn(one.key, one.label, one.dataset, target="aleph") for one in _DATASETS),
        metrics=("kendall",),
    ),
    PaperTable(
        "table5",
        "Table 5: VKDNW_single on ImageNet16-120 by batch size and input",
        tuple(
            PaperRow(
                str(size),
                f"batch size {size}",
                {"random": f"aleph>vkdnw_b{size}", "real": f"aleph>vkdnw_real_b{size}"},
            )
            for size in _BATCH_SIZES
        ),
        (PaperColumn("random", "random input", IMAGENET16), PaperColumn("real", "real input", IMAGENET16)),
    ),
    PaperTable("fig1", "Figure 1: nDCG on ImageNet16-120", _by_key(_FIG1_ROWS), _DATASETS[2:], metrics=("ndcg",)),
    PaperTable(
        "fig2",
        "Figure 2: toy example, two rankings of ten networks",
        (PaperRow("damaged_top", "damaged_top", "damaged_top"), PaperRow("perfect_top", "perfect_top", "perfect_top")),
        (PaperColumn("toy", "ten networks", "toy"),),
        decimals=2,
    ),
    PaperTable(
        "fig3",
        "Figure 3: Kendall's tau of the components with the size of the network",
        tuple(PaperRow(name, label, name) for name, label in _PROXIES.items()),
        (
            PaperColumn("aleph", "no. of trainable layers (ℵ)", IMAGENET16, target="aleph"),
            PaperColumn("params", "no. of parameters", IMAGENET16, target="params"),
        ),
        metrics=("kendall",),
        decimals=2,
    ),
    PaperTable(
        "robustness_tensors",
        "Robustness: VKDNW_single by the number of parameter tensors in the Fisher matrix (batch size 32)",
        tuple(
            PaperRow(str(count), f"first {count} tensors", f"aleph>vkdnw_official_t{count}")
            for count in (8, 16, 32, 64, 128, 256)
        ),
        _DATASETS,
    ),
    PaperTable(
        "robustness_weights",
        "Robustness: VKDNW_single by the number of weights taken from a layer",
        tuple(
            PaperRow(str(count), f"{count} per layer", "aleph>vkdnw" + (f"_w{count}" if count > 1 else ""))
            for count in (1, 2, 4, 8)
        ),
        _DATASETS[2:],
    ),
    PaperTable(
        "robustness_entry",
        "Robustness: which weight of a layer is taken, by its place between the first (0) and the last (1)",
        tuple(
            PaperRow(
                place,
                f"place {place}",
                {"vkdnw_single": f"aleph>vkdnw{label}", "vkdnw_agg": f"aleph>vkdnw{label}{_AGG}"},
                real_images=True,  # Jacov, in the aggregated ranking; VKDNW itself sees random input
            )
            for place, label in _ENTRIES.items()
        ),
        (
            PaperColumn("vkdnw_single", "VKDNW_single, ImageNet16-120", IMAGENET16),
            PaperColumn("vkdnw_agg", "VKDNW_agg, ImageNet16-120", IMAGENET16),
        ),
    ),
)

PAPER_TABLES: dict[str, PaperTable] = {table.name: table for table in _TABLES}
"""Every table and figure that can be compared, by the name that its numbers have."""

PAPER_SPACE = "nb201"
"""Space of all tables."""

PAPER_CHOICES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("table1", "table3", "table4", "table5", "fig1", "fig2", "fig3")},
    "robustness": ("robustness_tensors", "robustness_weights", "robustness_entry"),
}
"""What ``evaluate --paper`` takes -> the tables that it makes."""

"""How cheap settings rank MobileNetV2 networks beside 224 pixels: results.csv, agreement.png, tables for the README.

python benchmarks/mbv2_cpu/analyse.py
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import aggregate, rank_values
from vkdnw_pl.report.figures.style import panel, run_style, save_figure
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.bootstrap import bootstrap_intervals
from vkdnw_pl.scoring.evaluation import choose_rankings, evaluate_table, scores_by_seed
from vkdnw_pl.scoring.score_tables import join_columns, read_score_tables

HERE = Path(__file__).parent
RANKINGS = ("vkdnw", "vkdnw_single", "vkdnw_agg", "jacov", "expressivity", "trainability")
OTHERS = RANKINGS[3:]
REFERENCE, OTHER_SEED, ITSELF = "reference", "reference, seed 2", "itself, seed 2"
Agreement = tuple[int, float, float, float]


def read(*names: str) -> ScoreTable:
    """Score tables that hold different columns, joined."""
    return join_columns(read_score_tables([str(HERE / "scores" / f"{name}.csv.gz") for name in names], "mbv2"))


def read_setting(pixels: int, samples: int, batch: int, classes: int) -> ScoreTable:
    """A setting's scores; those of more images than VKDNW sees stand in a table of their own."""
    table = read(f"{pixels}px_{samples}_c{classes}")
    if batch == samples:
        return table
    others = {row.arch: row.values for row in read(f"{pixels}px_{batch}_others").rows}
    return ScoreTable(table.columns, [replace(row, values={**row.values, **others[row.arch]}) for row in table.rows])


def agreement(table: ScoreTable, reference: ScoreTable) -> dict[str, Agreement]:
    """Ranking -> networks of both, Spearman's rho of their two rankings, ends of its 95 % interval over networks."""
    both = set(table.archs) & set(reference.archs)
    reference = ScoreTable(reference.columns, [row for row in reference.rows if row.arch in both])
    columns = [column for column in table.columns if column in reference.columns]
    rankings = {name: terms for name, terms in choose_rankings(columns, None).items() if name in RANKINGS}
    (scores,) = scores_by_seed(reference)[1].values()
    truth = {
        name: dict(zip(reference.archs, rank_values(aggregate(scores, terms)), strict=True))
        for name, terms in rankings.items()
    }
    oracle = Oracle("reference", "", dict.fromkeys(truth, ""), truth, "mbv2")
    intervals = bootstrap_intervals(table, oracle, rankings, resamples=10_000)
    return {
        row["ranking"]: (row["n"], row["spearman"], *intervals[row["ranking"], row["dataset"]]["spearman"])
        for row in evaluate_table(table, oracle, rankings).metrics
        if row["ranking"] == row["dataset"]
    }


def main() -> None:
    reference, other_seed = (read(f"224px_8_c1000{seed}", f"224px_32_others{seed}") for seed in ("", "_seed2"))
    rows: list[tuple] = [
        (224, 8, 32, 1000, "", ITSELF, name, *values) for name, values in agreement(other_seed, reference).items()
    ]
    with (HERE / "costs.csv").open() as file:
        costs = [(*map(int, cells[:4]), float(cells[4])) for cells in list(csv.reader(file))[1:]]
    for *setting, seconds in costs:
        table = read_setting(*setting)
        for beside, other in ((REFERENCE, reference), (OTHER_SEED, other_seed)):
            rows += [(*setting, seconds, beside, name, *values) for name, values in agreement(table, other).items()]
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            (
                "pixels",
                "vkdnw_images",
                "images",
                "classes",
                "seconds",
                "beside",
                "ranking",
                "n",
                "spearman",
                "low",
                "high",
            )
        )
        writer.writerows((*row[:-3], *(f"{value:.4f}" for value in row[-3:])) for row in rows)
    for beside in (REFERENCE, OTHER_SEED, ITSELF):
        print(f"\n{beside}\n| pixels | images | classes | s | {' | '.join(RANKINGS)} |\n|{'---|' * 10}")
        for setting in dict.fromkeys(row[:5] for row in rows if row[5] == beside):
            cells = {
                row[6]: "{:.3f} [{:.3f}, {:.3f}]".format(*row[8:]) for row in rows if row[:6] == (*setting, beside)
            }
            pixels, samples, batch, classes, seconds = setting
            images = samples if samples == batch else f"{samples} / {batch}"
            print(
                "|",
                " | ".join(
                    map(str, (pixels, images, classes, seconds and f"{seconds:.1f}", *map(cells.get, RANKINGS)))
                ),
                "|",
            )
    draw([row for row in rows if row[5] == REFERENCE])


def draw(rows: Sequence[tuple]) -> None:
    settings = sorted(dict.fromkeys(row[:5] for row in rows), key=lambda setting: -setting[4])
    with panel(7.4, 5.0) as (figure, ax):
        for run, name in enumerate(("vkdnw_single", "vkdnw_agg", "vkdnw")):
            rho, low, high = np.array(
                [row[8:] for one in settings for row in rows if row[:5] == one and row[6] == name]
            ).T
            y = np.arange(len(settings)) + 0.22 * (1 - run)
            bars = [rho - low, high - rho]
            ax.errorbar(rho, y, xerr=bars, fmt="o", ms=5, lw=1.2, color=run_style(run)["color"], label=name)
        texts = []
        for pixels, samples, batch, classes, seconds in settings:
            images = f"{samples} images" if samples == batch else f"{samples} and {batch} images"
            texts.append(
                f"{pixels} px, {images}" + (f", C = {classes}" if classes != 10 else "") + f": {seconds:.1f} s"
            )
        ax.set_yticks(range(len(settings)), texts)
        ax.axvline(0.95, lw=1, ls=(0, (4, 3)), color=run_style(7)["color"])
        ax.set(xlabel="Spearman's rho with the ranking at 224 pixels, 95 % interval", xlim=(0.4, 1.01))
        ax.legend(loc="lower left")
    save_figure(figure, HERE / "agreement.png")


if __name__ == "__main__":
    main()

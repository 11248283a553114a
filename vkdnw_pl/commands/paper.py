"""What ``evaluate --paper`` does: our numbers beside the paper's, as text, Markdown, CSV, PNG and HTML."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkdnw_pl.commands.results import failed_rows, print_failures
from vkdnw_pl.commands.score_sources import Source, joined, read_sources
from vkdnw_pl.errors import user_input
from vkdnw_pl.oracles import Oracle, load_oracle
from vkdnw_pl.ranking import parse_ranking
from vkdnw_pl.report.paper_notes import Note, read_notes
from vkdnw_pl.report.paper_numbers import paper_values
from vkdnw_pl.report.paper_tables import ACCURACY, PAPER_CHOICES, PAPER_SPACE, PAPER_TABLES, PaperTable
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.bootstrap import Intervals, bootstrap_intervals, check_resampling, kendall_resamples
from vkdnw_pl.scoring.evaluation import Terms, choose_rankings, evaluate_table
from vkdnw_pl.spaces import NB201

if TYPE_CHECKING:
    from vkdnw_pl.report.paper_comparison import Comparison

Row = Mapping[str, Any]

_TOY = {  # accuracies in the order of two rankings, best first: Section 3 of the paper
    "damaged_top": (80, 70, 100, 90, 60, 50, 40, 30, 20, 10),
    "perfect_top": (100, 90, 80, 70, 60, 50, 10, 20, 30, 40),
}
_TOY_CUT = 5
_PARTIAL = "_partial"  # ends the row in the name of a model-driven ranking of which optional features are missing


@dataclass(frozen=True)
class PaperSample:
    """The networks of a table that a comparison is about."""

    table: ScoreTable
    oracle: Oracle
    num_networks: int
    """How many the paper ranks."""
    top_k: int
    """nDCG's cut among all networks that the paper ranks."""
    left_out: int
    """Networks of the table that are not among the paper's, lack a row for some seed, or have no known accuracy."""

    @property
    def size(self) -> int:
        """How many are ranked."""
        return len(self.table.archs)

    @property
    def places(self) -> float:
        """How many of the paper's networks each stands for."""
        return self.num_networks / self.size

    @property
    def complete(self) -> bool:
        """Whether these are all networks that the paper ranks."""
        return self.size == self.num_networks


def no_learned(sample: PaperSample) -> Iterable[Row]:
    """No model-driven rankings: their rows say that they were not computed."""
    return ()


Learned = Callable[[PaperSample], Iterable[Row]]
"""Makes the metric rows of the model-driven rankings ``graf``, ``vkdnw_m``, ``vkdnw_zcs_m``, ``vkdnw_zcs_graf_m``; one
whose ranking ends in ``_partial`` stands for its row too, and its ``missing`` becomes a footnote."""


def evaluate_paper(
    paths: Sequence[str],
    oracle: str,
    oracle_path: str | None,
    top_k: int,
    ties: str,
    paper: str,
    variant: str,
    bootstrap: int,
    notes: str | None,
    out: Path,
    learned: Learned = no_learned,
) -> int:
    """Compare, write and print; the options are those of ``evaluate``, ``learned`` makes what needs a trained model.

    Returns:
        0, or 1 if the scores hold failed rows.

    Raises:
        UsageError: if the scores or notes cannot be read, or an option is not allowed.
    """
    with user_input():
        own_notes = read_notes(notes) if notes else ()
        for name in PAPER_CHOICES[paper]:
            paper_values(name, variant)  # refuses what the paper does not have
        if paper == "fig2":
            if paths:
                raise ValueError(f"scores={list(paths)!r} has no use with paper='fig2', a toy example; give '[]'")
        else:
            if bootstrap:
                check_resampling(bootstrap)
            sources = read_sources(paths, PAPER_SPACE)
            sample = choose_sample(joined(sources), load_oracle(oracle, oracle_path), paper, variant, top_k)
    if paper == "fig2":
        write_comparisons(out, paper, [compare_toy(own_notes)], None)
        return 0
    print(f"comparing {sample.size:,} of {sample.num_networks:,} networks with the paper's {paper}", flush=True)
    done = compare_scores(sample, sources, paper, variant, bootstrap, ties, own_notes, learned(sample))
    write_comparisons(out, paper, done, sample.table)
    print_failures(sample.table)
    return 1 if failed_rows(sample.table) else 0


def choose_sample(table: ScoreTable, oracle: Oracle, paper: str, variant: str, top_k: int) -> PaperSample:
    """Limit a table to the paper's networks, and the oracle to its data sets.

    nDCG of the first 1,000 of 9,445 and of the first 1,000 of 1,000 are different quantities: in a sample of n every
    network takes 9,445 / n places.

    Raises:
        ValueError: if fewer than two networks remain, the oracle lacks a data set, or the table is no sample of the
            variant.
    """
    datasets = [column.dataset for name in PAPER_CHOICES[paper] for column in PAPER_TABLES[name].columns]
    if missing := [name for name in dict.fromkeys(datasets) if name not in oracle.datasets]:
        raise ValueError(
            f"paper={paper!r} compares with accuracies on {', '.join(missing)}, which the oracle {oracle.name!r} does not "
            f"know (it knows: {', '.join(oracle.datasets)}); choose oracle=nb201, after: python -m vkdnw_pl download nb201"
        )
    space = NB201()
    unique = set(space.enumerate(unique=True))
    wanted = unique if variant == "unique" else set(space.enumerate())
    if variant == "all" and set(table.archs) <= unique:
        raise ValueError(
            f"variant='all' compares with the paper's numbers for all {len(wanted):,} networks, but the scores are only of "
            f"unique structures ({len(table.archs):,}): they are no sample of all; choose variant=unique"
        )
    known = set(oracle.archs)
    keys, seeds = {row.key for row in table.rows}, table.seeds
    kept = {arch for arch in table.archs if arch in wanted & known and all((arch, seed) in keys for seed in seeds)}
    if len(kept) < 2:
        raise ValueError(
            f"paper={paper!r} ranks networks of NAS-Bench-201 with known accuracies (variant={variant!r}), and of the "
            f"{len(table.archs)} in the scores {len(kept)} are such; a ranking needs two"
        )
    rows = [row for row in table.rows if row.arch in kept]
    used = {name: oracle.tables[name] for name in dict.fromkeys(datasets)}
    return PaperSample(
        table=ScoreTable(table.columns, rows),
        oracle=dataclasses.replace(oracle, tables=used, split={name: oracle.split[name] for name in used}),
        num_networks=len(wanted),
        top_k=top_k,
        left_out=len(table.archs) - len(kept),
    )


def compare_scores(
    sample: PaperSample,
    sources: Sequence[Source],
    paper: str,
    variant: str,
    bootstrap: int,
    ties: str,
    notes: Sequence[Note] = (),
    extra_metrics: Iterable[Row] = (),
) -> list[Comparison]:
    """Compute the metrics of every row that the columns allow, their intervals, and put them beside the paper's.

    Args:
        sample: what is ranked.
        sources: where its columns come from.
        paper: one of `PAPER_CHOICES`.
        variant: ``unique`` or ``all``.
        bootstrap: resamples for the intervals; 0 for none.
        ties: nDCG's rule.
        notes: the user's notes.
        extra_metrics: metric rows of rankings that are made elsewhere, see `Learned`.
    """
    from vkdnw_pl.report.paper_comparison import compare

    tables = [PAPER_TABLES[name] for name in PAPER_CHOICES[paper]]
    rankings, problems = available(tables, sample.table.columns)
    extra = [{**row, "ranking": re.sub(rf"{_PARTIAL}(?=:|$)", "", str(row["ranking"]))} for row in extra_metrics]
    metrics: list[Row] = []
    intervals: Intervals = {}
    oracles = _oracles(tables, sample)
    resamples = 0 if sample.complete else bootstrap
    with _progress(resamples, len(rankings) * sum(len(oracle.datasets) for oracle in oracles)) as step:
        for oracle in oracles:
            metrics += evaluate_table(sample.table, oracle, rankings, sample.top_k, ties, sample.places).metrics
            if resamples:
                intervals |= bootstrap_intervals(
                    sample.table, oracle, rankings, sample.top_k, resamples, places=sample.places, step=step
                )
    return [
        compare(
            table,
            [*metrics, *extra],
            variant,
            intervals,
            problems,
            _remarks(table, sample, sources, resamples, ties, rankings),
            notes,
            _about_rows(table, sources, extra),
        )
        for table in tables
    ]


def available(tables: Iterable[PaperTable], columns: Sequence[str]) -> tuple[dict[str, Terms], dict[str, str]]:
    """The rankings that the columns allow, and for every other one why not."""
    rankings: dict[str, Terms] = {}
    problems: dict[str, str] = {}
    targets = dict.fromkeys(column.target for table in tables for column in table.columns if column.target != ACCURACY)
    absent = [target for target in targets if target not in columns]
    for ranking, learned in {name: one for table in tables for name, one in table.rankings().items()}.items():
        if learned:
            continue
        missing = [
            name for name in dict.fromkeys([*_columns_of(parse_ranking(ranking)), *absent]) if name not in columns
        ]
        if missing:
            what = "columns" if len(missing) > 1 else "the column"
            problems[ranking] = f"not computed: needs {what} {', '.join(missing)}, which the scores do not have"
            continue
        try:
            rankings |= choose_rankings(columns, [ranking])
        except ValueError as error:
            problems[ranking] = f"not computed: {error}"
    return rankings, problems


def compare_toy(notes: Sequence[Note] = ()) -> Comparison:
    """Figure 2: two rankings of ten networks with accuracies 100, 90, ..., 10."""
    from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho
    from vkdnw_pl.report.paper_comparison import compare

    rows = []
    for name, accuracies in _TOY.items():
        score = [-place for place in range(len(accuracies))]
        values = {
            "kendall": float(kendall_tau(score, accuracies)),
            "spearman": float(spearman_rho(score, accuracies)),
            "ndcg": float(ndcg(score, accuracies, top_k=_TOY_CUT)),
        }
        rows.append({"ranking": name, "dataset": "toy", "n": len(accuracies), "ndcg_k": _TOY_CUT, **values})
    remark = (
        f"nDCG looks at the first {_TOY_CUT} of the ten; the values here are exact, there is nothing random in them."
    )
    return compare(PAPER_TABLES["fig2"], rows, remarks=[remark], notes=notes)


def write_comparisons(folder: Path, paper: str, comparisons: Sequence[Comparison], table: ScoreTable | None) -> None:
    """Write ``<table>.csv``, ``<table>.md``, ``figures/<table>.png`` and ``<paper>.html``, and print the tables."""
    from vkdnw_pl.report.figures import save_figure
    from vkdnw_pl.report.paper_comparison import comparison_csv
    from vkdnw_pl.report.paper_html import comparison_html
    from vkdnw_pl.report.paper_text import comparison_markdown, print_comparison

    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, list[Path]] = {}
    names = []
    for comparison in comparisons:
        name = comparison.table.name
        write_atomically(folder / f"{name}.csv", comparison_csv(comparison))
        write_atomically(folder / f"{name}.md", comparison_markdown(comparison))
        made = {
            key: save_figure(one, folder / "figures" / f"{key}.png") for key, one in _figures(comparison, table).items()
        }
        # The page has the table itself, so its picture is left out there.
        shown[name] = [path for key, path in made.items() if name.startswith("fig")]
        names += [f"{name}.csv", f"{name}.md", *(f"figures/{key}.png" for key in made)]
        print()
        print_comparison(comparison)
    page = folder / f"{paper}.html"
    title = f"{paper}: this toolkit beside the paper"
    write_atomically(page, comparison_html(comparisons, title, _subtitle(comparisons), shown))
    print(f"\nresults in {folder}: {', '.join([page.name, *names])}")


def _figures(comparison: Comparison, table: ScoreTable | None) -> dict[str, Any]:
    """File name -> figure."""
    from vkdnw_pl.report import paper_figures

    name = comparison.table.name
    if name == "fig2":
        return {name: paper_figures.toy_figure(_TOY, comparison)}
    if name == "fig1":
        return {name: paper_figures.paired_bars(comparison, "ndcg")}
    if name == "fig3":
        figures = {name: paper_figures.paired_bars(comparison, "kendall")}
        components = [row.row.key for row in comparison.rows]
        there = [one for one in components if table is not None and one in table.columns]
        if table is not None and there and "aleph" in table.columns:
            first = [row for row in table.rows if row.seed == table.seeds[0] and row.values["aleph"] is not None]
            values = {one: [_or_nan(row.values[one]) for row in first] for one in there}
            figures["fig3_scatter"] = paper_figures.size_scatter(
                [row.values["aleph"] for row in first], values, comparison
            )
        return figures
    return {name: paper_figures.table_figure(comparison)}


def _subtitle(comparisons: Sequence[Comparison]) -> str:
    from vkdnw_pl._version import __version__

    which = {"unique": "the 9,445 unique structures", "all": "all 15,625 networks"}[comparisons[0].variant]
    about = "" if comparisons[0].table.name == "fig2" else f" The paper's numbers are those of {which}."
    return f"VKDNW (CVPR 2025), computed by vkdnw_pl {__version__}.{about}"


def _oracles(tables: Sequence[PaperTable], sample: PaperSample) -> list[Oracle]:
    """What rankings are compared with: accuracies, or columns of the scores."""
    columns = [column for table in tables for column in table.columns]
    found = []
    if any(column.target == ACCURACY for column in columns):
        found.append(sample.oracle)
    targets = dict.fromkeys(column.target for column in columns if column.target != ACCURACY)
    present = {target: _column_values(sample.table, target) for target in targets if target in sample.table.columns}
    found += [
        Oracle(f"column {name}", "a column of the scores", {name: ""}, {name: one}) for name, one in present.items()
    ]
    return found


def _column_values(table: ScoreTable, column: str) -> dict[str, float]:
    """Architecture -> value of a column that does not depend on the seed."""
    values: dict[str, float] = {}
    for row in table.rows:
        value = row.values[column]
        if value is None:
            continue
        if values.setdefault(row.arch, value) != value:
            raise ValueError(f"the column {column!r} has different values for {row.arch} under different seeds")
    return values


def _remarks(
    table: PaperTable,
    sample: PaperSample,
    sources: Sequence[Source],
    resamples: int,
    ties: str,
    rankings: Mapping[str, Terms],
) -> list[str]:
    """What was done here, for the reader of one table."""
    n, whole = sample.size, sample.num_networks
    if sample.complete:
        remarks = [f"All {whole:,} networks that the paper ranks, so there is no sampling error."]
    else:
        remarks = [f"A sample: {n:,} of the {whole:,} networks, taken as drawn at random."]
    if "ndcg" in table.metrics:
        remarks.append(f"nDCG looks at the first {sample.top_k:,}. Equal scores: {ties}.")
    if "ndcg" in table.metrics and not sample.complete:
        remarks.append(
            f"In nDCG each of the {n:,} networks takes {whole / n:.2f} places, those of the networks that it stands for, so "
            f"that the value estimates that of all {whole:,}."
        )
    if resamples:
        few = kendall_resamples(n, resamples)
        kendall = "" if few == resamples else f", {few:,} for Kendall's tau"
        remarks.append(f"Intervals: 95 % percentile bootstrap over networks, {resamples:,} resamples{kendall}.")
    elif not sample.complete:
        remarks.append("No intervals were asked for (bootstrap=0).")
    if sample.left_out:
        remarks.append(
            f"Left out: {sample.left_out:,} networks of the scores that the paper does not rank, that lack a row for some "
            "seed, or whose accuracy is not known."
        )
    used = dict.fromkeys(
        column for name in table.rankings() if name in rankings for column in _columns_of(rankings[name])
    )
    counts = {
        column: sum(row.values[column] is None for row in sample.table.rows)
        for column in used
        if column in sample.table.columns
    }
    if missing := [f"{column} {count}" for column, count in counts.items() if count]:
        rows = len(sample.table.rows)
        remarks.append(f"Without a finite value, and so ranked last (of {rows:,} rows): {', '.join(missing)}.")
    seeds = sample.table.seeds
    remarks.append(f"Seeds: {', '.join(map(str, seeds))}.")
    remarks += [f"Scores: {source.describe()}." for source in sources]
    if any(column.target == ACCURACY for column in table.columns):
        remarks.append(f"Accuracies: {sample.oracle.description}.")
    return remarks


def _about_rows(table: PaperTable, sources: Sequence[Source], extra: Sequence[Row]) -> dict[str, str]:
    """What scores saw whose rows saw real images in the paper, and which features a model-driven ranking lacks."""
    missing = {str(row["ranking"]): str(row["missing"]) for row in extra if row.get("missing")}
    told = {}
    for row in table.rows:
        rankings = {row.ranking_for(column.key) for column in table.columns} - {None}
        needs = {column for one in rankings if one and not row.learned for column in _columns_of(parse_ranking(one))}
        those = [source for source in sources if row.learned or needs & set(source.table.columns)]
        texts = [f"Features that are missing here: {missing[one]}." for one in rankings if one in missing]
        if row.real_images and those:
            texts.append(f"What these scores saw here: {'; '.join(one.describe() for one in those)}.")
        if texts:
            told[row.key] = " ".join(texts)
    return told


def _columns_of(terms: Terms) -> list[str]:
    return [name for term in terms for name in ([term] if isinstance(term, str) else term)]


@contextmanager
def _progress(resamples: int, steps: int) -> Iterator[Callable[[], object]]:
    """A bar over rankings and data sets; nothing where nothing is resampled."""
    if not resamples:
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, desc=f"{resamples:,} resamples", unit="ranking", mininterval=1.0) as bar:
        yield bar.update


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value

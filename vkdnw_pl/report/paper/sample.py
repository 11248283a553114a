"""What ``evaluate --paper`` computes: the paper's networks among the scored ones, the metrics of every row, and remarks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from vkdnw_pl.errors import program
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import columns_of, parse_ranking, rank_agreement
from vkdnw_pl.ranking.learned import LEARNED_ROWS, PAPER_TRAIN_SIZE, default_train_size
from vkdnw_pl.report.figures.rankings import save_importances
from vkdnw_pl.report.paper.comparison import Comparison, compare
from vkdnw_pl.report.paper.tables import ACCURACY, PAPER_CHOICES, PAPER_TABLES, Note, PaperTable
from vkdnw_pl.report.tables import Row
from vkdnw_pl.runs.table import ScoreRow, ScoreTable
from vkdnw_pl.scoring.bootstrap import Intervals, bootstrap_intervals, kendall_resamples
from vkdnw_pl.scoring.evaluation import Terms, choose_rankings, evaluate_table, scores_by_seed
from vkdnw_pl.scoring.learned_evaluation import LearnedEvaluation, ModelKeeper, complete_seeds, evaluate_learned
from vkdnw_pl.scoring.score_tables import RecordedTable, join_columns
from vkdnw_pl.spaces import NB201

TOY = {  # accuracies in the order of two rankings, best first: Section 3 of the paper
    "damaged_top": (80, 70, 100, 90, 60, 50, 40, 30, 20, 10),
    "perfect_top": (100, 90, 80, 70, 60, 50, 10, 20, 30, 40),
}
_TOY_CUT = 5


@dataclass(frozen=True)
class PaperSample:
    """The networks of a table that a comparison is about."""

    table: ScoreTable
    oracle: Oracle
    sources: Sequence[RecordedTable]
    """What the table was joined of."""
    num_networks: int
    """How many the paper ranks."""
    top_k: int
    """nDCG's cut among all networks that the paper ranks."""
    left_out: int
    """Networks of the table that are not among the paper's, lack a row for some seed, or have no known accuracy."""

    @property
    def size(self) -> int:
        return len(self.table.archs)

    @property
    def places(self) -> float:
        """How many of the paper's networks each stands for."""
        return self.num_networks / self.size

    @property
    def complete(self) -> bool:
        return self.size == self.num_networks


def choose_samples(
    sources: Sequence[RecordedTable], oracle: Oracle, paper: str, variant: str, top_k: int
) -> list[PaperSample]:
    """Join the tables of the same networks, and those with the same columns; each such group is a sample.

    A row of the paper's table is measured on the first of them that has its columns, so that a table of all networks
    and a more expensive one of some stand in one comparison.
    """
    groups: list[list[RecordedTable]] = []
    for source in sources:
        archs, columns = set(source.table.archs), set(source.table.columns)
        for group in groups:
            if any(archs == set(other.table.archs) or columns == set(other.table.columns) for other in group):
                group.append(source)
                break
        else:
            groups.append([source])
    return [choose_sample(group, oracle, paper, variant, top_k) for group in groups]


def choose_sample(
    sources: Sequence[RecordedTable], oracle: Oracle, paper: str, variant: str, top_k: int
) -> PaperSample:
    """Join tables, limit the result to the paper's networks, and the oracle to its data sets.

    nDCG of the first 1,000 of 9,445 and of the first 1,000 of 1,000 are different quantities: in a sample of n every
    network takes 9,445 / n places.
    """
    table = join_columns(sources)
    columns = [column for name in PAPER_CHOICES[paper] for column in PAPER_TABLES[name].columns]
    datasets = list(dict.fromkeys(column.dataset for column in columns))
    if missing := [name for name in datasets if name not in oracle.datasets]:
        raise ValueError(
            f"paper={paper!r} needs accuracies on {', '.join(missing)}, which the oracle {oracle.name!r} does not know "
            f"(it knows: {', '.join(oracle.datasets)}); choose oracle=nb201, after: {program()} download nb201"
        )
    unique = set(NB201().enumerate(unique=True))
    ranked = unique if variant == "unique" else set(NB201().enumerate())
    if variant == "all" and set(table.archs) <= unique:
        raise ValueError(
            f"variant='all' is not allowed: the scores are only of unique structures ({len(table.archs):,}), which are no "
            f"sample of all {len(ranked):,} networks; choose variant=unique"
        )
    kept = set(scores_by_seed(table)[0]) & ranked & set(oracle.archs)
    if len(kept) < 2:
        raise ValueError(
            f"paper={paper!r} ranks networks of NAS-Bench-201 with known accuracies (variant={variant!r}), and of the "
            f"{len(table.archs)} in the scores {len(kept)} are such; a ranking needs two"
        )
    return PaperSample(
        ScoreTable(table.columns, [row for row in table.rows if row.arch in kept]),
        oracle.only(datasets),
        sources,
        num_networks=len(ranked),
        top_k=top_k,
        left_out=len(table.archs) - len(kept),
    )


def compare_scores(
    samples: Sequence[PaperSample],
    paper: str,
    variant: str,
    bootstrap: int,
    ties: str,
    notes: Sequence[Note] = (),
    learned_metrics: Iterable[Row] = (),
) -> list[Comparison]:
    """Compute the metrics of every row that the columns allow, their intervals, and put them beside the paper's.

    Each row is measured on the first of ``samples`` (`choose_samples`) that has its columns. ``bootstrap`` is the number
    of resamples, 0 for no intervals; of ``learned_metrics`` (`evaluate_learned`) a ranking ``*_partial`` stands for its
    row, with a footnote.
    """
    tables = [PAPER_TABLES[name] for name in PAPER_CHOICES[paper]]
    rankings, problems = _available(tables, samples)
    metrics = [{**row, "ranking": re.sub(r"_partial(?=:|$)", "", str(row["ranking"]))} for row in learned_metrics]
    missing = {row["ranking"]: row["missing"] for row in metrics if row.get("missing")}
    intervals: Intervals = {}
    oracles = [_oracles(tables, sample) for sample in samples]
    resamples = [0 if sample.complete else bootstrap for sample in samples]
    steps = sum(len(r) * sum(len(o.datasets) for o in of) for r, of, n in zip(rankings, oracles, resamples) if n)
    with tqdm(total=steps, desc=f"{bootstrap:,} resamples", unit="ranking", disable=not steps) as bar:
        for sample, ranked, of_sample, count in zip(samples, rankings, oracles, resamples, strict=True):
            scores, top_k, places = sample.table, sample.top_k, sample.places
            for oracle in of_sample:
                metrics += evaluate_table(scores, oracle, ranked, top_k, ties, places).metrics
                if count:
                    intervals |= bootstrap_intervals(
                        scores, oracle, ranked, top_k, count, places=places, step=bar.update
                    )
    comparisons = []
    for table in tables:
        used = [
            (sample, ranked, count)
            for sample, ranked, count in zip(samples, rankings, resamples, strict=True)
            if sample is samples[0] or ranked.keys() & table.rankings().keys()
        ]
        remarks = list(dict.fromkeys(text for one in used for text in _remarks(table, *one, ties, len(used) == 1)))
        row_remarks = _row_remarks(table, samples, rankings, missing)
        comparisons.append(compare(table, metrics, variant, intervals, problems, remarks, notes, row_remarks))
    return comparisons


def learned_rows(
    samples: Sequence[PaperSample], models: Sequence[str], train_size: int | None, ties: str, folder: Path
) -> LearnedEvaluation:
    """Train the model-driven rows of Table 1; keep their models in ``folder/models``, draw what they look at.

    A row takes the sample with the most of its columns, the first of several. Rows of graph features alone need no
    scores, so they are those of all architectures that the oracle knows among the paper's 9,445. In nDCG the test part
    stands for the paper's 8,421.
    """
    unique = list(NB201().enumerate(unique=True))
    oracle = samples[0].oracle
    known_archs = set(oracle.archs)
    everything = ScoreTable((), [ScoreRow(arch, 1, {}) for arch in unique if arch in known_archs])
    tables = [everything, *(complete_seeds(sample.table) for sample in samples)]
    rows: list[list[str]] = [[] for _ in tables]
    for name, features in LEARNED_ROWS.items():
        wanted = {*features.required, *features.optional}
        able = [i for i, table in enumerate(tables) if set(features.required) <= set(table.columns)]
        if able:
            rows[max(able, key=lambda i: len(wanted & set(tables[i].columns)))].append(name)
    total = LearnedEvaluation()
    for table, names in zip(tables, rows, strict=True):
        n = len(table.archs)
        size = default_train_size(n) if train_size is None or table is everything else train_size
        if names and n >= 4:
            places = max(1.0, (len(unique) - PAPER_TRAIN_SIZE) / max(n - size, 1))
            keeper = ModelKeeper(folder / "models")
            part = evaluate_learned(
                table, oracle, names, models, train_size=size, ties=ties, places=places, on_model=keeper
            )
            total.metrics.extend(part.metrics)
            total.notes.extend(part.notes)
            save_importances(part.importances, folder / "figures")
    return total


def _available(
    tables: Sequence[PaperTable], samples: Sequence[PaperSample]
) -> tuple[list[dict[str, Terms]], dict[str, str]]:
    """The rankings of each sample, and for every one that none has the columns of why not."""
    rankings: list[dict[str, Terms]] = [{} for _ in samples]
    problems: dict[str, str] = {}
    everywhere = {column for sample in samples for column in sample.table.columns}
    targets = [column.target for table in tables for column in table.columns if column.target != ACCURACY]
    for name in dict.fromkeys(name for table in tables for name, learned in table.rankings().items() if not learned):
        needed = dict.fromkeys([*columns_of(parse_ranking(name)), *targets])
        able = [i for i, sample in enumerate(samples) if needed.keys() <= set(sample.table.columns)]
        if able:
            rankings[able[0]] |= choose_rankings(samples[able[0]].table.columns, [name])
            continue
        missing = [column for column in needed if column not in everywhere]
        what = "columns" if len(missing or needed) > 1 else "the column"
        problems[name] = (
            f"not computed: needs {what} {', '.join(missing)}, which the scores do not have"
            if missing
            else f"not computed: needs {what} {', '.join(needed)}, which the scores do not have of the same networks"
        )
    return rankings, problems


def compare_toy(notes: Sequence[Note] = ()) -> Comparison:
    """Figure 2: two rankings of ten networks with accuracies 100, 90, ..., 10."""
    rows = []
    for name, accuracies in TOY.items():
        agreement = rank_agreement([-place for place in range(len(accuracies))], accuracies, _TOY_CUT, "average")
        rows.append({"ranking": name, "dataset": "toy", "n": len(accuracies), "ndcg_k": _TOY_CUT, **agreement})
    remark = (
        f"nDCG looks at the first {_TOY_CUT} of the ten; the values here are exact, there is nothing random in them."
    )
    return compare(PAPER_TABLES["fig2"], rows, remarks=[remark], notes=notes)


def _oracles(tables: Sequence[PaperTable], sample: PaperSample) -> list[Oracle]:
    """What rankings are compared with: accuracies, or columns of the scores."""
    targets = dict.fromkeys(column.target for table in tables for column in table.columns)
    oracles = [sample.oracle] if ACCURACY in targets else []
    for name in targets:
        if name not in sample.table.columns:
            continue
        values: dict[str, float] = {}
        for row in sample.table.rows:
            value = row.values[name]
            if value is not None and values.setdefault(row.arch, value) != value:
                raise ValueError(f"the column {name!r} has different values for {row.arch} under different seeds")
        if values:
            oracles.append(
                Oracle(f"column {name}", "a column of the scores", {name: ""}, {name: values}, units={name: ""})
            )
    return oracles


def _remarks(
    table: PaperTable, sample: PaperSample, rankings: Mapping[str, Terms], resamples: int, ties: str, alone: bool
) -> list[str]:
    """What was done here, for the reader of one table; not ``alone`` where rows of it are of other samples."""
    n, whole = sample.size, sample.num_networks
    rows_of = sum(any(row.ranking_for(c.key) in rankings for c in table.columns) for row in table.rows)
    which = "" if alone else f" ({rows_of} of the rows)"
    if sample.complete:
        remarks = [f"All {whole:,} networks that the paper ranks{which}, so there is no sampling error."]
    else:
        remarks = [f"A sample{which}: {n:,} of the {whole:,} networks, taken as drawn at random."]
    if "ndcg" in table.metrics:
        remarks.append(f"nDCG looks at the first {sample.top_k:,}. Equal scores: {ties}.")
    if "ndcg" in table.metrics and not sample.complete:
        remarks.append(
            f"In nDCG each of the {n:,} networks takes {whole / n:.2f} places, those of the networks that it stands for, so "
            f"that the value estimates that of all {whole:,}."
        )
    if resamples:
        fewer = kendall_resamples(n, resamples)
        kendall = "" if fewer == resamples else f", {fewer:,} for Kendall's tau"
        remarks.append(f"Intervals: 95 % percentile bootstrap over networks, {resamples:,} resamples{kendall}.")
    elif not sample.complete:
        remarks.append("No intervals were asked for (bootstrap=0).")
    if sample.left_out:
        remarks.append(
            f"Left out: {sample.left_out:,} networks of the scores that the paper does not rank, that lack a row for some "
            "seed, or whose accuracy is not known."
        )
    rows = sample.table.rows
    columns = [column for name in table.rankings() if name in rankings for column in columns_of(rankings[name])]
    counts = {column: sum(row.values[column] is None for row in rows) for column in columns}
    if missing := [f"{column} {count}" for column, count in counts.items() if count]:
        remarks.append(f"Without a finite value, and so ranked last (of {len(rows):,} rows): {', '.join(missing)}.")
    remarks.append(f"Seeds: {', '.join(map(str, sample.table.seeds))}.")
    remarks += [f"Scores: {source.describe()}." for source in sample.sources]
    if any(column.target == ACCURACY for column in table.columns):
        remarks.append(f"Accuracies: {sample.oracle.description}.")
    return remarks


def _row_remarks(
    table: PaperTable,
    samples: Sequence[PaperSample],
    rankings: Sequence[Mapping[str, Terms]],
    missing: Mapping[str, str],
) -> dict[str, str]:
    """Of which networks rows are that are not of the first sample, what scores saw whose rows saw real images in the
    paper, and which features a model-driven ranking lacks."""
    remarks = {}
    for row in table.rows:
        of_row = dict.fromkeys(row.ranking_for(column.key) for column in table.columns)
        texts = [f"Features that are missing here: {missing[name]}." for name in of_row if name in missing]
        used = [sample for sample, ranked in zip(samples, rankings, strict=True) if ranked.keys() & of_row.keys()]
        if used and used[0] is not samples[0]:
            texts.append(f"Of {used[0].size:,} networks.")
        sources = [source for sample in used or samples for source in sample.sources] if row.real_images else []
        if not row.learned:
            columns = {name for ranking in of_row for name in columns_of(parse_ranking(ranking))}
            sources = [source for source in sources if columns & set(source.table.columns)]
        if sources:
            texts.append(f"What these scores saw here: {'; '.join(source.describe() for source in sources)}.")
        if texts:
            remarks[row.key] = " ".join(texts)
    return remarks

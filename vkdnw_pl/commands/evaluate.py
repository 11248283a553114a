"""The command ``evaluate``."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vkdnw_pl.commands.results import failed_rows, print_failures, print_notes, write_results
from vkdnw_pl.errors import user_input
from vkdnw_pl.options import OracleOptions, WandbOptions, as_config
from vkdnw_pl.oracles import Oracle, load_oracle
from vkdnw_pl.report.paper.tables import PAPER_CHOICES, PAPER_SPACE, paper_values
from vkdnw_pl.runs.environment import environment_record
from vkdnw_pl.runs.folder import check_out
from vkdnw_pl.runs.shipped import local_or_shipped
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.tracking.results import log_evaluation, log_metrics, log_paper, log_score_files, log_scores, log_spaces
from vkdnw_pl.tracking.run import WandbRun, wandb_run

BASELINES = ("macs", "vkdnw_agg")
Paper = Literal["table1", "table3", "table4", "table5", "fig1", "fig2", "fig3", "robustness"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(OracleOptions, WandbOptions):
    """Options of ``evaluate``."""

    scores: str | list[str] = field(default_factory=list, metadata={"by_place": True})
    """Run folder of score or merge, or a score table (.csv or .csv.gz): a column arch, perhaps seed, and one column per
    score, higher = better. Several are joined by (arch, seed), as in '[a.csv, b.csv]'; a column that two of them have must
    be the same in both. With --paper, tables of other networks may stand behind the first: a row of the paper is measured on
    the first that has its columns. None for --paper fig2 and with spaces."""
    spaces: dict[str, Any] | None = None
    """Several collections of networks in one table: name -> {scores, space, oracle, oracle_path, datasets}, of which only
    scores must be given (space is the name, oracle auto, datasets all). Writes every ranking's metrics on every data set, with
    paired differences to baselines, what it says of networks of equal size, and how far rankings agree; a ranking whose
    columns a table lacks has an empty cell there."""
    baselines: list[str] = field(default_factory=lambda: list(BASELINES))
    """With spaces, rankings that the others are compared with."""
    rankings: list[str] | None = None
    """Rankings to evaluate: columns, the named sets vkdnw_single, vkdnw_agg, vkdnw_robust, az_nas, te_nas, or own ones such as
    'aleph>vkdnw+jacov' (log-ranks of the pair and of jacov added). Default: all that the columns allow."""
    top_k: int = 1000
    """nDCG looks at this many architectures from the top of a ranking; with --paper, at this many of all its networks, of
    which each of a sample stands for some."""
    ties: Literal["average", "random", "arbitrary"] = "average"
    """nDCG's rule for equal scores: average over their orders, one random order, or the order of an unstable sort, as in
    the paper's code."""
    space: str = "nb201"
    """Search space that the architectures of a table belong to."""
    models: list[str] | None = None
    """Model-driven rankings: train random_forest (the paper's), extra_trees or gradient_boosting on some of the known
    accuracies and measure on the others, from proxies and graph features (models are kept in OUT/models), or a file
    *.skops of a trained one, to rank by what it predicts. With --paper table1 the default is random_forest and
    gradient_boosting."""
    train_size: int | None = None
    """Architectures to train on. Default: 1,024, or half of fewer than 2,048."""
    paper: Paper | None = None
    """Compare with a table or figure of the VKDNW paper: table1, table3, table4, table5, fig1, fig2 (a toy example), fig3,
    or robustness (three tables of the authors' notebooks). Rows whose columns the scores lack are shown with what they
    lack."""
    variant: Literal["unique", "all"] = "unique"
    """With --paper, its numbers for the 9,445 unique structures or for all 15,625 networks."""
    bootstrap: int | None = None
    """Resamples of the networks for 95 % intervals, 0 for none. Default: 1000 with spaces, and with --paper where the scores
    are of a sample of its networks; else 0."""
    notes: str | None = None
    """With --paper, YAML file with your own notes, a list of {text, tables, rows, columns, variants}."""
    out: str | None = None
    """Folder for the results. Default: the run folder, or runs/evaluate-<name of the table>; with --paper runs/paper-<its
    name>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        from vkdnw_pl.metrics.functional import check_options
        from vkdnw_pl.scoring.bootstrap import check_resampling
        from vkdnw_pl.scoring.learned_evaluation import check_models

        check_options(self.top_k, self.ties)
        check_models(self.models or [])
        SPACES.find(self.space)
        if self.bootstrap:
            check_resampling(self.bootstrap)
        if self.spaces is not None:
            self._check_spaces(self.spaces)
            return
        self.refuse("without spaces", "baselines")
        if not self.scores and self.paper != "fig2":
            raise ValueError("scores is empty: give a run folder or a score table, or several spaces with --spaces")
        if self.oracle is None and (self.model_names or self.paper not in (None, "fig2")):
            raise ValueError("oracle=null is not allowed with models to train and with paper: both need accuracies")
        if self.paper is None:
            self.refuse("without paper", "variant", "notes")
            if not self.model_names:
                self.refuse("without models to train (give --models random_forest)", "train_size")
            if self.oracle is None:
                self.refuse("with oracle=null: there are no metrics", "top_k", "ties", "bootstrap")
            return
        used = f"with paper={self.paper!r}"
        self.refuse(f"{used}, which decides it", "rankings", "space")
        if self.model_files:
            raise ValueError(f"models: {self.model_files[0]!r} has no use {used}, whose models are trained here")
        if (self.models or self.train_size) and self.paper != "table1":
            raise ValueError(f"models and train_size have no use {used}, which has no model-driven rows")
        if self.paper == "fig2":
            if self.scores:
                raise ValueError(f"scores={self.scores!r} has no use {used}, a toy example; give '[]'")
            self.refuse(
                f"{used}, a toy example", "oracle_path", "oracle_measures", "top_k", "ties", "variant", "bootstrap"
            )
        for table in PAPER_CHOICES[self.paper]:
            paper_values(table, self.variant)  # refuses what the paper does not have

    def _check_spaces(self, spaces: dict[str, Any]) -> None:
        from vkdnw_pl.scoring.space_tables import space_sources

        what = "with spaces, each of which names its own"
        self.refuse(what, "scores", "space", "oracle", "oracle_path", "oracle_measures")
        self.refuse("with spaces: nDCG looks at a tenth of each, ties by their average", "top_k", "ties")
        self.refuse("with spaces", "models", "train_size", "paper", "variant", "notes")
        space_sources(spaces)
        for option in ("rankings", "baselines"):  # an empty list would compare nothing
            names = getattr(self, option)
            if names is not None and (not names or len(set(names)) < len(names)):
                raise ValueError(f"{option}={names!r} is not allowed: name at least one, and none twice")

    @property
    def resamples(self) -> int:
        """How often networks are drawn for the intervals."""
        return self.bootstrap if self.bootstrap is not None else 1000 if self.paper or self.spaces else 0

    @property
    def paths(self) -> list[str]:
        """The score tables and run folders; those of the shipped configurations come with the package."""
        return [local_or_shipped(path) for path in ([self.scores] if isinstance(self.scores, str) else self.scores)]

    @property
    def model_files(self) -> list[str]:
        """Files of trained models."""
        return [model for model in self.models or [] if model.endswith(".skops")]

    @property
    def model_names(self) -> list[str]:
        """Models to train."""
        return [model for model in self.models or [] if not model.endswith(".skops")]


def evaluate(options: EvaluateOptions) -> int:
    """Rank architectures by scores that exist, and compare with known accuracies.

    Nothing is scored. Writes ranking.csv, metrics.csv and figures, and prints the metrics. With --paper it puts every
    value beside the paper's instead: as text, Markdown, CSV, PNG and one HTML page, with the reasons where they differ. With
    --spaces it answers whether a ranking holds in several search spaces (docs/trust.md).

    Returns:
        0, or 1 if the table holds failed rows.

    Raises:
        UsageError: if the scores cannot be read or an option is not allowed.
    """
    if options.spaces is not None:
        return _evaluate_spaces(options, options.spaces)
    if options.paper is not None:
        return _compare_with_paper(options, options.paper)
    from vkdnw_pl.scoring.evaluation import choose_rankings
    from vkdnw_pl.scoring.learned_evaluation import with_predictions
    from vkdnw_pl.scoring.score_tables import join_columns, read_score_tables

    with user_input():
        table = with_predictions(join_columns(read_score_tables(options.paths, options.space)), options.model_files)
        oracle = options.find_oracle(options.space)
        if options.model_names:
            oracle = load_oracle(options.oracle or "auto", options.oracle_path, options.space, options.oracle_measures)
        rankings = choose_rankings(table.columns, options.rankings)
    folder = ScoreFolder(options.out or _default_out(Path(options.paths[0])))
    check_out(folder.path)
    print(f"evaluating {len(table.archs)} architectures, {len(table.rows)} rows of {', '.join(options.paths)}")
    with folder.lock_if_free(), _wandb_run(options, folder.path) as run:
        evaluation = write_results(folder, table, oracle, rankings, options.top_k, options.ties, options.resamples)
        if options.model_names and oracle is not None:
            metrics = _train(options, table, oracle, folder.path)
            log_metrics(run, "learned_metrics", metrics[0], metrics)
        log_scores(run, table)
        log_evaluation(run, folder, evaluation, oracle)
        log_score_files(run, folder)
        run.exit_code = 1 if failed_rows(table) else 0
        return run.exit_code


def _evaluate_spaces(options: EvaluateOptions, spaces: dict[str, Any]) -> int:
    from vkdnw_pl.report.spaces import spaces_text
    from vkdnw_pl.report.spaces_pages import write_spaces_pages
    from vkdnw_pl.runs.record import RunRecord
    from vkdnw_pl.scoring.progress import Progress
    from vkdnw_pl.scoring.space_tables import rankings_of, read_space_tables, space_sources, weight_notes
    from vkdnw_pl.scoring.spaces_evaluation import count_steps, evaluate_spaces
    from vkdnw_pl.scoring.spaces_folder import SpacesFolder, spaces_settings, write_spaces

    folder = SpacesFolder(options.out or "runs/spaces")
    sources = space_sources(spaces)
    with user_input():
        folder.earlier_meta()
        tables, left_out = read_space_tables(sources)
        rankings = rankings_of(tables, options.rankings, options.baselines, complete=not left_out)
        settings = spaces_settings(sources, list(rankings), options.baselines, options.resamples)
    for name, reason in left_out.items():
        print(f"LEFT OUT: {name}: {reason}")
    sizes = ", ".join(f"{space.name} ({len(space.table.archs):,})" for space in tables)
    print(f"evaluating {len(rankings)} rankings on {sizes}", flush=True)
    steps = count_steps(tables, rankings)
    notes = weight_notes(tables, rankings)
    with folder.lock(), RunRecord(folder, as_config(options), settings, left_out=left_out, notes=notes) as record:
        folder.clear()
        with Progress(steps, verb=f"{options.resamples:,} resamples", unit="ranking") as progress:
            evaluation = evaluate_spaces(
                tables, rankings, options.baselines, options.resamples, lambda: progress.add(False)
            )
        write_spaces(folder.path, evaluation)
        record.end("finished")
        files = write_spaces_pages(folder, evaluation)
        with _wandb_run(options, folder.path) as run:
            log_spaces(run, folder, evaluation)
    print("\n" + spaces_text(evaluation, left_out))
    print_notes(notes)
    print(f"results in {folder.path}: {', '.join(files)}")
    return 0


def _compare_with_paper(options: EvaluateOptions, paper: Paper) -> int:
    from vkdnw_pl.report.paper.sample import choose_samples, compare_scores, compare_toy, learned_rows
    from vkdnw_pl.report.paper.tables import read_notes
    from vkdnw_pl.report.paper.text import print_comparison, write_comparisons
    from vkdnw_pl.scoring.score_tables import read_score_tables

    out = Path(options.out or f"runs/paper-{paper}").expanduser()
    check_out(out)
    with user_input():
        notes = read_notes(options.notes) if options.notes else ()
    if paper == "fig2":
        tables = [ScoreTable(())]
        comparisons = [compare_toy(notes)]
    else:
        with user_input():
            sources = read_score_tables(options.paths, PAPER_SPACE)
            oracle = load_oracle(options.oracle or "auto", options.oracle_path, measures=options.oracle_measures)
            samples = choose_samples(sources, oracle, paper, options.variant, options.top_k)
        tables = [sample.table for sample in samples]
        sizes = " and ".join(f"{sample.size:,}" for sample in samples)
        print(f"comparing {sizes} of {samples[0].num_networks:,} networks with the paper's {paper}", flush=True)
        metrics: list[dict[str, Any]] = []
        if paper == "table1":
            models = options.models or ["random_forest", "gradient_boosting"]
            with user_input():
                learned = learned_rows(samples, models, options.train_size, options.ties, out)
            print("\n".join(dict.fromkeys(learned.notes)))
            metrics = learned.metrics
        comparisons = compare_scores(samples, paper, options.variant, options.resamples, options.ties, notes, metrics)
    with ScoreFolder(out).lock_if_free():
        names = write_comparisons(out, paper, comparisons, tables[0])
    for comparison in comparisons:
        print()
        print_comparison(comparison)
    print(f"\nresults in {out}: {', '.join(names)}")
    print_failures([row for table in tables for row in table.rows])
    with _wandb_run(options, out) as run:
        log_paper(run, out, paper)
        run.exit_code = 1 if any(map(failed_rows, tables)) else 0
        return run.exit_code


def _train(options: EvaluateOptions, table: ScoreTable, oracle: Oracle, folder: Path) -> list[dict[str, Any]]:
    """Train the models, keep them, write and print what they reach, and return those metric rows."""
    from vkdnw_pl.report.figures.rankings import save_importances
    from vkdnw_pl.report.tables import print_table
    from vkdnw_pl.scoring.evaluation import write_metrics
    from vkdnw_pl.scoring.learned_evaluation import LEARNED_COLUMNS, ModelKeeper, complete_seeds, evaluate_learned

    with user_input():
        learned = evaluate_learned(
            complete_seeds(table),
            oracle,
            models=options.model_names,
            train_size=options.train_size,
            top_k=options.top_k,
            ties=options.ties,
            space=options.space,
            on_model=ModelKeeper(folder / "models"),
        )
    write_metrics(folder / "learned_metrics.csv", learned.metrics, LEARNED_COLUMNS)
    save_importances(learned.importances, folder / "figures")
    print()
    print_table(learned.metrics)
    print("\n".join(dict.fromkeys(learned.notes)))
    print(f"model-driven rankings in {folder}: learned_metrics.csv, models/, figures/importances_*.png")
    return learned.metrics


def _wandb_run(options: EvaluateOptions, out: Path) -> AbstractContextManager[WandbRun]:
    meta = {"command": "evaluate", "environment": environment_record()}
    return wandb_run(options, as_config(replace(options, out=str(out))), out, "evaluate", meta)


def _default_out(scores: Path) -> str:
    if scores.expanduser().is_dir():
        return str(scores)
    return f"runs/evaluate-{scores.name.removesuffix('.gz').removesuffix('.csv')}"

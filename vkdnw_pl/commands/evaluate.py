"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from vkdnw_pl.commands.results import failed_rows, write_results
from vkdnw_pl.commands.score_sources import joined, read_sources
from vkdnw_pl.errors import user_input
from vkdnw_pl.oracles import Oracle, find_oracle, load_oracle
from vkdnw_pl.report.paper_tables import PAPER_SPACE
from vkdnw_pl.runs.environment import environment_record
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.tracking.contents import log_evaluation, log_metrics, log_paper, log_score_files, log_scores
from vkdnw_pl.tracking.options import wandb_options
from vkdnw_pl.tracking.tracked import tracked_run

Paper = Literal["table1", "table3", "table4", "table5", "fig1", "fig2", "fig3", "robustness"]


def evaluate(
    scores: str | list[str],
    oracle: str = "auto",
    oracle_path: str | None = None,
    rankings: list[str] | None = None,
    top_k: int = 1000,
    ties: Literal["average", "random", "arbitrary"] = "average",
    space: str = "nb201",
    models: list[str] | None = None,
    train_size: int | None = None,
    paper: Paper | None = None,
    variant: Literal["unique", "all"] = "unique",
    bootstrap: int = 1000,
    notes: str | None = None,
    out: str | None = None,
    wandb: bool | str = False,
    wandb_group: str | None = None,
    wandb_tags: list[str] = [],  # noqa: B006  (only read)
) -> int:
    """Rank architectures by scores that exist, and compare with known accuracies.

    Nothing is scored. Writes ranking.csv, metrics.csv and figures, and prints the metrics. With --paper it puts every
    value beside the paper's instead: as text, Markdown, CSV, PNG and one HTML page, with the reasons where they differ.

    Args:
        scores: Run folder of score or merge, or a score table (.csv or .csv.gz): a column arch, perhaps seed, and one
            column per score, higher = better. Several are joined by (arch, seed), as in '[a.csv, b.csv]'; a column
            that two of them have must be the same in both. '[]' for --paper fig2, which needs none.
        oracle: Known accuracies of the space. nb201: digits (embedded), nb201 (public tables), nats (NATS-Bench folder);
            timm_zoo: timm (timm's ImageNet results); any: a CSV file with columns arch,<data set>. auto: the public
            tables if they were downloaded, else for nb201 the embedded one, else none: then there are no metrics.
        oracle_path: Folder of the public tables, of NATS-Bench or of timm's results, if it is not the cache folder.
        rankings: Rankings to evaluate: columns, the named sets vkdnw_single, vkdnw_agg, vkdnw_plus, az_nas, te_nas, or own ones such as
            'aleph>vkdnw+jacov' (log-ranks of the pair and of jacov added). Default: all that the columns allow.
        top_k: nDCG looks at this many architectures from the top of a ranking; with --paper, at this many of all its
            networks, of which each of a sample stands for some.
        ties: nDCG's rule for equal scores: average over their orders, one random order, or the order of an unstable
            sort, as in the paper's code.
        space: Search space that the architectures of a table belong to.
        models: Model-driven rankings: train random_forest (the paper's), extra_trees or gradient_boosting on some of the
            known accuracies and measure on the others, from proxies and graph features (models are kept in OUT/models),
            or a file *.skops of a trained one, to rank by what it predicts. With --paper table1 the default
            is random_forest and gradient_boosting.
        train_size: Architectures to train on. Default: 1,024, or half of fewer than 2,048.
        paper: Compare with a table or figure of the VKDNW paper: table1, table3, table4, table5, fig1, fig2 (a toy
            example), fig3, or robustness (three tables of the authors' notebooks). Rows whose columns the scores lack
            are shown with what they lack.
        variant: With --paper, its numbers for the 9,445 unique structures or for all 15,625 networks.
        bootstrap: With --paper and a sample of the networks, resamples for the intervals; 0 for none.
        notes: With --paper, YAML file with your own notes, a list of {text, tables, rows, columns, variants}.
        out: Folder for the results. Default: the run folder, or runs/evaluate-<name of the table>; with --paper
            runs/paper-<its name>.
        wandb: Log to Weights & Biases too: true (the project vkdnw_pl, or WANDB_PROJECT), PROJECT, or ENTITY/PROJECT.
            Without a key or network it writes offline into OUT/wandb.
        wandb_group: Group of the run there.
        wandb_tags: Tags of the run there, such as '[first, second]'.

    Returns:
        0, or 1 if the table holds failed rows.

    Raises:
        UsageError: if the scores cannot be read or an option is not allowed.
    """
    options = dict(locals())
    paths = [scores] if isinstance(scores, str) else scores
    with user_input():
        wandb_options(options)
        from vkdnw_pl.commands.learned import SUFFIX, check_models

        check_models(models or [])
        files = [model for model in models or [] if model.endswith(SUFFIX)]
        names = [model for model in models or [] if model not in files]
        if files and paper is not None:
            raise ValueError(f"models: {files[0]!r} has no use with paper={paper!r}, whose models are trained here")
        if (models or train_size) and paper not in (None, "table1"):
            raise ValueError(f"models and train_size have no use with paper={paper!r}, which has no model-driven rows")
        if train_size is not None and not names and paper is None:
            raise ValueError(f"train_size={train_size} has no use without models to train; give --models random_forest")
        SPACES.find(space)
        from vkdnw_pl.metrics.functional import check_options

        check_options(top_k, ties)
        if paper is not None and (rankings is not None or space != PAPER_SPACE):
            wrong = f"rankings={rankings!r}" if rankings is not None else f"space={space!r}"
            raise ValueError(f"{wrong} has no use with paper={paper!r}, which decides it; leave it out")
        if paper is None and (variant != "unique" or bootstrap != 1000 or notes is not None):
            raise ValueError("variant, bootstrap and notes have no use without paper; leave them out, or give --paper")
    if paper is not None:
        from vkdnw_pl.commands.paper import PaperSample, evaluate_paper

        target = Path(out or f"runs/paper-{paper}").expanduser()
        chosen_models = tuple(names) or ("random_forest", "gradient_boosting")

        def learned(sample: PaperSample) -> list[dict[str, Any]]:
            from vkdnw_pl.commands.learned import paper_rows

            if paper != "table1":
                return []
            with user_input():
                found = paper_rows(sample.table, sample.oracle, chosen_models, train_size, ties, target)
            print("\n".join(dict.fromkeys(found.notes)))
            return found.metrics

        code = evaluate_paper(
            paths, oracle, oracle_path, top_k, ties, paper, variant, bootstrap, notes, target, learned
        )
        options["out"] = str(target)
        with tracked_run(options, target, "evaluate", _meta()) as tracked:
            log_paper(tracked, target, paper)
            return tracked.ended(code)
    with user_input():
        table = joined(read_sources(paths, space))
        if files:
            from vkdnw_pl.commands.learned import with_predictions

            table = with_predictions(table, files)
        known = (load_oracle if names else find_oracle)(oracle, oracle_path, space)
        from vkdnw_pl.scoring.evaluation import choose_rankings

        chosen = choose_rankings(table.columns, rankings)
    folder = ScoreFolder(out or _default_out(Path(paths[0])))
    print(f"evaluating {len(table.archs)} architectures, {len(table.rows)} rows of {', '.join(paths)}")
    options["out"] = str(folder.path)
    with tracked_run(options, folder.path, "evaluate", _meta()) as tracked:
        evaluation = write_results(folder, table, known, chosen, top_k, ties)
        if names and known is not None:
            metrics = _train(table, known, names, train_size, top_k, ties, space, folder.path)
            log_metrics(tracked, "learned_metrics", metrics[0], metrics)
        log_scores(tracked, table)
        log_evaluation(tracked, folder, evaluation, known)
        log_score_files(tracked, folder)
        return tracked.ended(1 if failed_rows(table) else 0)


def _meta() -> dict[str, Any]:
    return {"command": "evaluate", "environment": environment_record()}


def _train(
    table: ScoreTable,
    oracle: Oracle,
    models: list[str],
    train_size: int | None,
    top_k: int,
    ties: str,
    space: str,
    folder: Path,
) -> list[dict[str, Any]]:
    """Train the models, write and print what they reach, and return those metric rows."""
    from vkdnw_pl.commands.learned import train_models
    from vkdnw_pl.report.tables import print_table
    from vkdnw_pl.scoring.learned_evaluation import write_learned_metrics

    with user_input():
        found = train_models(table, oracle, models, train_size, top_k, ties, space, folder)
    write_learned_metrics(folder / "learned_metrics.csv", found.metrics)
    print()
    print_table(found.metrics)
    print("\n".join(dict.fromkeys(found.notes)))
    print(f"model-driven rankings in {folder}: learned_metrics.csv, models/, figures/importances_*.png")
    return found.metrics


def _default_out(scores: Path) -> str:
    if scores.expanduser().is_dir():
        return str(scores)
    return f"runs/evaluate-{scores.name.removesuffix('.gz').removesuffix('.csv')}"

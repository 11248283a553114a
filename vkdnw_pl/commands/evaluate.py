"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vkdnw_pl.commands.errors import user_input
from vkdnw_pl.commands.results import failed_rows, write_results
from vkdnw_pl.commands.score_sources import joined, read_sources
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.scoring.folder import RunFolder
from vkdnw_pl.spaces import SPACES

Paper = Literal["table1", "table3", "table4", "table5", "fig1", "fig2", "fig3", "robustness"]


def evaluate(
    scores: str | list[str],
    oracle: str = "auto",
    oracle_path: str | None = None,
    rankings: list[str] | None = None,
    top_k: int = 1000,
    ties: Literal["average", "random", "arbitrary"] = "average",
    space: str = "nb201",
    paper: Paper | None = None,
    variant: Literal["unique", "all"] = "unique",
    bootstrap: int = 1000,
    notes: str | None = None,
    out: str | None = None,
) -> int:
    """Rank architectures by scores that exist, and compare with known accuracies.

    Nothing is scored. Writes ranking.csv, metrics.csv and figures, and prints the metrics. With --paper it puts every
    value beside the paper's instead: as text, Markdown, CSV, PNG and one HTML page, with the reasons where they differ.

    Args:
        scores: Run folder of score or merge, or a score table (.csv or .csv.gz): a column arch, perhaps seed, and one
            column per score, higher = better. Several are joined by (arch, seed), as in '[a.csv, b.csv]'; a column
            that two of them have must be the same in both. '[]' for --paper fig2, which needs none.
        oracle: Known accuracies: auto (the public tables if they were downloaded, else the embedded one), digits
            (embedded), nb201 (public tables), nats (NATS-Bench folder), or a CSV file with columns arch,<data set>.
        oracle_path: Folder of the public tables or of NATS-Bench, if it is not the cache folder.
        rankings: Rankings to evaluate: columns, the named sets vkdnw_single, vkdnw_agg, az_nas, or own ones such as
            'aleph>vkdnw+jacov' (log-ranks of the pair and of jacov added). Default: all that the columns allow.
        top_k: nDCG looks at this many architectures from the top of a ranking; with --paper, at this many of all its
            networks, and the same share of a sample.
        ties: nDCG's rule for equal scores: average over their orders, one random order, or the order of an unstable
            sort, as in the paper's code.
        space: Search space that the architectures of a table belong to.
        paper: Compare with a table or figure of the VKDNW paper: table1, table3, table4, table5, fig1, fig2 (a toy
            example), fig3, or robustness (three tables of the authors' notebooks). Rows whose columns the scores lack
            are shown with what they lack.
        variant: With --paper, its numbers for the 9,445 unique structures or for all 15,625 networks.
        bootstrap: With --paper and a sample of the networks, resamples for the intervals; 0 for none.
        notes: With --paper, YAML file with your own notes, a list of {text, tables, rows, columns, variants}.
        out: Folder for the results. Default: the run folder, or runs/evaluate-<name of the table>; with --paper
            runs/paper-<its name>.

    Returns:
        0, or 1 if the table holds failed rows.

    Raises:
        UsageError: if the scores cannot be read or an option is not allowed.
    """
    paths = [scores] if isinstance(scores, str) else scores
    with user_input():
        if space not in SPACES:
            raise ValueError(f"space={space!r} is not known (known: {', '.join(SPACES)})")
        from vkdnw_pl.metrics.functional.ndcg import check_options

        check_options(top_k, ties)
        if paper is not None and (rankings is not None or space != "nb201"):
            wrong = f"rankings={rankings!r}" if rankings is not None else f"space={space!r}"
            raise ValueError(f"{wrong} has no use with paper={paper!r}, which decides it; leave it out")
        if paper is None and (variant != "unique" or bootstrap != 1000 or notes is not None):
            raise ValueError("variant, bootstrap and notes have no use without paper; leave them out, or give --paper")
    if paper is not None:
        from vkdnw_pl.commands.paper import evaluate_paper

        target = Path(out or f"runs/paper-{paper}").expanduser()
        return evaluate_paper(paths, oracle, oracle_path, top_k, ties, paper, variant, bootstrap, notes, target)
    with user_input():
        table = joined(read_sources(paths, space))
        known = load_oracle(oracle, oracle_path)
        from vkdnw_pl.scoring.evaluation import choose_rankings

        chosen = choose_rankings(table.columns, rankings)
    folder = RunFolder(out or _default_out(Path(paths[0])))
    print(f"evaluating {len(table.archs)} architectures, {len(table.rows)} rows of {', '.join(paths)}")
    write_results(folder, table, known, chosen, top_k, ties)
    return 1 if failed_rows(table) else 0


def _default_out(scores: Path) -> str:
    if scores.expanduser().is_dir():
        return str(scores)
    return f"runs/evaluate-{scores.name.removesuffix('.gz').removesuffix('.csv')}"

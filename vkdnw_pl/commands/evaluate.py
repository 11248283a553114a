"""The command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vkdnw_pl.commands.errors import user_input
from vkdnw_pl.commands.results import failed_rows, write_results
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.scoring.folder import RunFolder
from vkdnw_pl.scoring.table import ScoreTable, canonical, join_rows, read_table
from vkdnw_pl.spaces import SPACES


def evaluate(
    scores: str,
    oracle: str = "auto",
    oracle_path: str | None = None,
    rankings: list[str] | None = None,
    top_k: int = 1000,
    ties: Literal["average", "random", "arbitrary"] = "average",
    space: str = "nb201",
    out: str | None = None,
) -> int:
    """Rank architectures by scores that exist, and compare with known accuracies.

    Nothing is scored. Writes ranking.csv, metrics.csv and figures, and prints the metrics.

    Args:
        scores: Run folder of score or merge, or a score table (.csv or .csv.gz): a column arch, perhaps seed, and one
            column per score, higher = better.
        oracle: Known accuracies: auto (the public tables if they were downloaded, else the embedded one), digits
            (embedded), nb201 (public tables), nats (NATS-Bench folder), or a CSV file with columns arch,<data set>.
        oracle_path: Folder of the public tables or of NATS-Bench, if it is not the cache folder.
        rankings: Rankings to evaluate: columns, the named sets vkdnw_single, vkdnw_agg, az_nas, or own ones such as
            'aleph>vkdnw+jacov' (log-ranks of the pair and of jacov added). Default: all that the columns allow.
        top_k: nDCG looks at this many architectures from the top of a ranking.
        ties: nDCG's rule for equal scores: average over their orders, one random order, or the order of an unstable
            sort, as in the paper's code.
        space: Search space that the architectures of a table belong to.
        out: Folder for the results. Default: the run folder, or runs/evaluate-<name of the table>.

    Returns:
        0, or 1 if the table holds failed rows.

    Raises:
        UsageError: if the scores cannot be read or an option is not allowed.
    """
    with user_input():
        if space not in SPACES:
            raise ValueError(f"space={space!r} is not known (known: {', '.join(SPACES)})")
        table = _read(Path(scores).expanduser(), space)
        known = load_oracle(oracle, oracle_path)
        from vkdnw_pl.metrics.functional.ndcg import check_options
        from vkdnw_pl.scoring.evaluation import choose_rankings

        check_options(top_k, ties)
        chosen = choose_rankings(table.columns, rankings)
    folder = RunFolder(out or _default_out(Path(scores)))
    print(f"evaluating {len(table.archs)} architectures, {len(table.rows)} rows of {scores}")
    write_results(folder, table, known, chosen, top_k, ties)
    return 1 if failed_rows(table) else 0


def _read(path: Path, space: str) -> ScoreTable:
    """Read a score table; of a run folder also the rows of a run that is not finished."""
    if not path.is_dir():
        table = canonical(read_table(path), SPACES[space], str(path))
        table = ScoreTable(table.columns, list(join_rows(table.rows, str(path)).values()))
    else:
        folder = RunFolder(path)
        folder.read_meta()
        rows = folder.read_rows()
        columns = tuple(next(iter(rows.values())).values) if rows else ()
        order = {arch: place for place, arch in enumerate(folder.read_archs())}
        table = ScoreTable(columns, sorted(rows.values(), key=lambda row: (order[row.arch], row.seed)))
    if not table.rows:
        raise ValueError(f"{path} holds no scores")
    return table


def _default_out(scores: Path) -> str:
    if scores.expanduser().is_dir():
        return str(scores)
    return f"runs/evaluate-{scores.name.removesuffix('.gz').removesuffix('.csv')}"

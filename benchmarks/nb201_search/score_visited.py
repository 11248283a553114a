"""Scores the NAS-Bench-201 networks that the searches of `run.py` visit, and no others; each once.

    python benchmarks/nb201_search/score_visited.py OUT.csv [--known TABLES...] --rankings vkdnw_agg --strategies evolution --seeds 0-9

Each search runs as `search` would with computed proxies (same proposals, same values), but a network that an earlier
search met is looked up. Goes on where it was stopped. Several processes, each with its own OUT, share work by --known.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from run import search_options

from vkdnw_pl.runs.table import ScoreRow, header_line, read_journals, read_table, row_line
from vkdnw_pl.scoring.scorer import Scorer
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.loop import search
from vkdnw_pl.search.plan import SearchOptions, plan_search
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.spaces import SPACES


class Cache:
    """Rows by architecture: of tables and journals that exist, and computed."""

    def __init__(self, out: Path, known: Sequence[Path], settings: SearchSettings) -> None:
        self.out, self.columns = out, tuple(settings.columns)
        self.scorer, self.seed = Scorer(settings), settings.proxy_seed
        self.scorer.use("cpu")
        self.rows: dict[str, ScoreRow] = {}
        self.others, self.made = known, 0
        if not out.exists():
            out.write_text(header_line(self.columns), encoding="utf-8")
        self.read([out, *known])

    def read(self, paths: Sequence[Path]) -> None:
        for path in paths:
            rows = read_journals(path) if path.is_dir() else read_table(path).rows if path.exists() else []
            self.rows |= {row.arch: row for row in rows if row.seed == 1 and set(self.columns) <= set(row.values)}

    def __call__(self, archs: Sequence[str], columns: Sequence[str]) -> Iterator[ScoreRow]:
        for arch in archs:
            row = self.rows.get(arch)
            if row is None:
                row = self.rows[arch] = self.scorer.score(arch, self.seed)
                self.made += 1
                with self.out.open("a", encoding="utf-8") as file:
                    file.write(row_line(row, self.columns))
            yield replace(row, values={column: row.values[column] for column in columns})


def plan(ranking: str, strategy: str, evaluations: int, seed: int):
    options = search_options(ranking, strategy, evaluations, seed)
    return plan_search(SearchOptions(**options, device="cpu", progress=False))


def main(
    out: Path, known: list[Path], rankings: list[str], strategies: list[str], seeds: str, evaluations: int
) -> None:
    first, _, last = seeds.partition("-")
    cache = Cache(out, known, plan("vkdnw_agg", "evolution", evaluations, 0).settings)
    print(f"{len(cache.rows)} networks known of {len(list(SPACES['nb201'].enumerate(unique=True)))}", flush=True)
    for ranking in rankings:
        for strategy in strategies:
            for seed in range(int(first), int(last or first) + 1):
                settings = plan(ranking, strategy, evaluations, seed).settings
                cache.read([path for path in known if path.is_file()])
                with tempfile.TemporaryDirectory() as folder:
                    target = SearchFolder(folder)
                    search(settings, target, evaluations, partial(cache, columns=settings.columns))
                print(f"{ranking} {strategy} {seed}: {cache.made} scored, {len(cache.rows)} known", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--known", type=Path, nargs="*", default=[])
    parser.add_argument("--rankings", nargs="+", default=["vkdnw_agg"])
    parser.add_argument("--strategies", nargs="+", default=["evolution"])
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--evaluations", type=int, default=1000)
    main(**vars(parser.parse_args()))

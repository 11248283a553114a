"""Searches that take no time: a made-up table of scores of NAS-Bench-201, and settings for it."""

import random
from pathlib import Path

from vkdnw_pl.ranking import parse_ranking
from vkdnw_pl.search.constraints import Budget, HowToMeasure
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.loop import search
from vkdnw_pl.search.scores import open_scores
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.spaces import NB201


def make_table(path: Path, archs=None) -> str:
    """Two columns for every unique network: a noisy one, and one with many ties; some networks failed."""
    rng = random.Random(0)
    space = NB201()
    lines = ["arch,seed,noisy,tied,status,reason,seconds\n"]
    for i, arch in enumerate(archs or space.enumerate(unique=True)):
        convs = arch.count("conv_3x3") + 0.5 * arch.count("conv_1x1")
        if i % 50 == 7:
            lines.append(f"{arch},1,,,failed,out of luck,0.1\n")
        else:
            lines.append(f"{arch},1,{convs + rng.gauss(0, 1)!r},{arch.count('skip')},ok,,0.1\n")
    path.write_text("".join(lines))
    return str(path)


def make_settings(scores: str | None, **changed) -> SearchSettings:
    ranking = changed.pop("ranking", "noisy+tied+macs")
    return SearchSettings(
        **{
            "space": "nb201",
            "network": {},
            "space_options": {},
            "strategy": "evolution",
            "population": 30,
            "tournament": 5,
            "start": None,
            "objectives": ("score", "macs"),
            "budget": Budget(),
            "how_to_measure": HowToMeasure(),
            "ranking": ranking,
            "terms": parse_ranking(ranking),
            "columns": ("noisy", "tied"),
            "proxies": [],
            "scores": scores,
            "batch": 8,
            "seed": 0,
            "proxy_seed": 1,
            "batch_size": 4,
            "input": "random",
            "data": None,
            "init": "auto",
            "device": "cpu",
            **changed,
        }
    )


class AtEachCandidate:
    """An observer that does something at each candidate."""

    def __init__(self, action) -> None:
        self.action = action

    def candidate(self, candidate, counts):
        self.action(candidate)

    def batch(self, history):
        pass


def run(
    folder: Path, settings: SearchSettings, evaluations: int, at_candidate=lambda candidate: None, workers=1, **options
):
    """Search in `folder`; returns how it ended."""
    run_folder = SearchFolder(folder)
    run_folder.path.mkdir(exist_ok=True)
    observers = [AtEachCandidate(at_candidate)]
    if settings.scores is not None:
        return search(settings, run_folder, evaluations, table_scores(settings), observers, **options)
    with open_scores(settings, workers) as evaluate:
        return search(settings, run_folder, evaluations, evaluate, observers, **options)


def table_scores(settings: SearchSettings):
    """Reading a table takes longer than the rest of a search."""
    key = (settings.scores, settings.columns)
    if key not in _TABLES:
        with open_scores(settings) as _TABLES[key]:
            pass
    return _TABLES[key]


_TABLES: dict = {}


def lines_without_seconds(folder: Path) -> list[str]:
    return [line.rpartition(",")[0] for line in (folder / "history.csv").read_text().splitlines()]

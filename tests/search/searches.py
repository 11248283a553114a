"""Searches that take no time: a made-up table of scores of NAS-Bench-201, and settings for it."""

import random
from pathlib import Path

from vkdnw_pl.ranking import parse_ranking
from vkdnw_pl.search.constraints import Budget
from vkdnw_pl.search.evaluation import make_evaluation
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.measuring import HowToMeasure
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


class Silent:
    """Watches and says nothing; may do something at each candidate."""

    def __init__(self, at_candidate=lambda candidate: None) -> None:
        self.at_candidate = at_candidate

    def start(self, done, total):
        pass

    def candidate(self, candidate, tally):
        self.at_candidate(candidate)

    def batch(self, record):
        pass

    def end(self):
        pass


def run(folder: Path, settings: SearchSettings, evaluations: int, at_candidate=lambda candidate: None, **options):
    """Search in `folder`; returns how it ended."""
    from vkdnw_pl.search.engine import search

    place = SearchFolder(folder)
    place.path.mkdir(exist_ok=True)
    return search(settings, place, evaluations, evaluation(settings), Silent(at_candidate), **options)


def evaluation(settings: SearchSettings):
    """Reading a table takes longer than the rest of a search."""
    key = (settings.scores, settings.columns)
    if key not in _READ:
        _READ[key] = make_evaluation(settings, "cpu")
    return _READ[key]


_READ: dict = {}


def lines_without_seconds(folder: Path) -> list[str]:
    return [line.rpartition(",")[0] for line in (folder / "history.csv").read_text().splitlines()]

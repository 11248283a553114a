"""The run folder of a search, and ``found.json``: what it found, for whoever trains it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vkdnw_pl.networks.arch_file import TASK
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.search.history import Candidate, RankedHistory, read_history
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.spaces import Space

FIGURES = tuple(f"figures/{name}.png" for name in ("best_so_far", "*_and_score", "diversity", "choices"))


class SearchFolder(RunFolder):
    """A run folder with ``history.csv`` the candidates in the order of the search, ``measured.csv`` what was measured where
    a budget needs that, ``found.json`` the best, and figures."""

    command = "search"
    files = ("history.csv", "measured.csv", "found.json", *FIGURES)
    evidence = ("history.csv",)

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.history = self.path / "history.csv"
        self.measured = self.path / "measured.csv"
        self.found = self.path / "found.json"

    def read_candidates(self) -> list[Candidate]:
        """The history so far; ``ValueError`` if it is damaged."""
        return read_history(self.history) if self.history.is_file() else []


FORMAT = 1


def describe_found(
    settings: SearchSettings, space: Space, history: RankedHistory, top_k: int, oracle: Oracle | None = None
) -> dict[str, Any] | None:
    """Content of ``found.json`` with the ``top_k`` best; None where no candidate can be chosen."""
    network = {name: value for name, value in settings.network.items() if name not in TASK}
    scores, weights = history.scores(), history.weights()
    digest = settings.digest()
    top = []
    for rank, place in enumerate(history.best(top_k).tolist(), start=1):
        candidate = history[place]
        entry: dict[str, Any] = {
            "format": FORMAT,
            "space": settings.space,
            "arch": candidate.arch,
            "network": network,
            "rank": rank,
            "score": float(scores[place]),
            "scores": dict(candidate.values),
            "ranking": settings.ranking,
            "macs": candidate.macs,
            "num_params": candidate.num_params,
            "layers": candidate.layers,
            "latency_ms": candidate.latency_ms,
            "peak_mb": candidate.peak_mb,
            "input_size": list(space.input_size(**settings.network)),
            "num_classes": space.num_classes(**settings.network),
        }
        if (cost := space.reference_cost(candidate.arch, **settings.network)) is not None:
            entry["reference"] = {"macs": cost.macs, "num_params": cost.num_params}
        if weights:
            entry["weights"] = weights
        if oracle is not None:
            entry["accuracies"] = {dataset: table.get(candidate.arch) for dataset, table in oracle.tables.items()}
            others = [measure for measure in map(oracle.measure, oracle.datasets) if not measure.is_accuracy]
            if others:  # what is no percentage of which more is better
                entry["units"] = {measure.dataset: measure.unit for measure in others}
        if settings.labels is not None:  # each evaluation took one
            entry["labels"] = {**settings.labels.record(), "split": settings.labels.split, "used": len(history)}
        entry |= {
            "seed": settings.seed,
            "digest": digest,
            "index": candidate.index,
            "evaluated": len(history),
            "strategy": settings.strategy,
        }
        top.append(entry)
    return {**top[0], "top": top} if top else None


def rank_candidates(settings: SearchSettings, candidates: Iterable[Candidate]) -> RankedHistory:
    """All candidates with their ranks."""
    history = RankedHistory(settings.terms)
    history.add(candidates)
    return history

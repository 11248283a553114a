"""``found.json``: what a search found, for whoever trains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vkdnw_pl.networks.arch_file import TASK
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.ranked_history import RankedHistory
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.spaces import Space

FORMAT = 1
Accuracies = Mapping[str, Mapping[str, float]]
"""Data set -> architecture -> known accuracy in percent."""


def describe_found(
    settings: SearchSettings, space: Space, history: RankedHistory, top_k: int, accuracies: Accuracies | None = None
) -> dict[str, Any] | None:
    """Content of ``found.json``; None where no candidate can be chosen.

    Args:
        settings: of the search.
        space: that these settings make.
        history: all candidates.
        top_k: how many of the best to describe.
        accuracies: known ones, where there are some.
    """
    network = {name: value for name, value in settings.network.items() if name not in TASK}
    scores = history.scores()
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
        if (counted := space.reference_cost(candidate.arch, **settings.network)) is not None:
            entry["reference"] = {"macs": counted.macs, "num_params": counted.num_params}
        if accuracies is not None:
            entry["accuracies"] = {dataset: known.get(candidate.arch) for dataset, known in accuracies.items()}
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

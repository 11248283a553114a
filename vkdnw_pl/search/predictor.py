"""Search by a predictor: a forest learns accuracies from the networks labelled so far, and says which to label next."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vkdnw_pl.errors import check_whole
from vkdnw_pl.ranking import rank_values
from vkdnw_pl.ranking.learned import MODELS, Regression, make_pipeline
from vkdnw_pl.search.history import COST_COLUMNS, LABEL, PREDICTED, Candidate, RankedHistory
from vkdnw_pl.search.strategies import INITIAL, Draw, DrawFrom, Strategy
from vkdnw_pl.spaces import Space

if TYPE_CHECKING:
    from vkdnw_pl.search.scores import Evaluate

Floats = np.ndarray[Any, np.dtype[np.float64]]

_PARENTS = 10


class PredictorSearch(Strategy):
    """Label those of a pool of networks that a forest trained on all labels so far thinks best.

    The scheme of NPENAS and BANANAS (White et al., AAAI 2021) with a random forest of 100 trees in the place of a neural
    network. The first candidates, at least 10, are samples. Then ``pool`` new networks within the budget are drawn for
    each batch: half of them samples, half neighbours of the 10 best so far (where the space has no neighbours, only
    samples). Those with the best predictions are labelled. Features are MACs, parameters and layers, the decisions of the
    string (`Space.decisions`) and the history's columns of proxies, which are computed for the whole pool.

    The forest predicts the label's rank, which `predicted` gives as the accuracy at this rank: of accuracies a few that are
    very low would take up most splits (on NAS-Bench-201 that found less, see benchmarks/learned_search).
    """

    name = "predictor"
    options: ClassVar[tuple[str, ...]] = ("pool",)
    looks_ahead = True

    def __init__(self, space: Space, pool: int) -> None:
        super().__init__(space)
        check_whole("pool", pool, 2)
        self.pool = pool

    def drawing(self, history: RankedHistory) -> DrawFrom:
        if self._begins(history):
            return self._sampled("initial")
        parents = history.top(_PARENTS)
        if not len(parents) or type(self.space).neighbour is Space.neighbour:  # it has none
            return self._sampled("random")

        def draw(rng: random.Random) -> Draw:
            if rng.random() < 0.5:
                return Draw(self.sample(rng), None, "random")
            parent = int(parents[rng.randrange(len(parents))])
            return Draw(self.space.neighbour(history[parent].arch, rng), parent, "mutation")

        return draw

    def num_drawn(self, history: RankedHistory, count: int) -> int:
        return count if self._begins(history) else self.pool

    def choose(
        self, drawn: Sequence[Candidate], history: RankedHistory, count: int, evaluate: Evaluate
    ) -> Sequence[Candidate]:
        if self._begins(history) or not drawn:
            return drawn
        rows = evaluate([candidate.arch for candidate in drawn])
        pool = [replace(candidate, values=row.values) for candidate, row in zip(drawn, rows, strict=True)]
        values = features([*history, *pool], self.space.decisions)
        labels = np.array([candidate.values[LABEL] for candidate in history], dtype=np.float64)
        ranks = rank_values(labels)
        forest = Regression.fit(values[: len(labels)], ranks, make_pipeline(MODELS[0], seed=0))
        predicted = forest.predict(values[len(labels) :])
        best = np.argsort(-predicted, kind="stable")[:count]
        accuracies = np.interp(predicted[best], np.sort(ranks), np.sort(labels)).tolist()
        return [
            replace(drawn[place], index=len(history) + i, values={PREDICTED: accuracy})
            for i, (place, accuracy) in enumerate(zip(best.tolist(), accuracies, strict=True))
        ]

    def _begins(self, history: RankedHistory) -> bool:
        return len(history) < INITIAL


def features(candidates: Sequence[Candidate], decisions: Mapping[str, tuple[str, tuple[str, ...]]]) -> Floats:
    """Numbers (n, features) to predict from: costs, columns of proxies, and what the architecture's string decides.

    Of a decision: how often each value was taken; and what was taken at each place, as the value itself where values are
    numbers, else as one column for each value. NaN where there is none.
    """
    columns = [[_number(getattr(row, name)) for row in candidates] for name in COST_COLUMNS]
    proxies = [name for name in candidates[-1].values if name not in (LABEL, PREDICTED)]
    columns += [[_number(row.values[name]) for row in candidates] for name in proxies]
    for pattern, values in decisions.values():
        taken = [re.findall(pattern, row.arch) for row in candidates]
        columns += [[row.count(value) for row in taken] for value in values]
        numbers = all(re.fullmatch(r"\d+", value) for value in values)
        for place in range(max(map(len, taken))):
            at_place = [row[place] if place < len(row) else None for row in taken]
            if numbers:
                columns.append([np.nan if value is None else float(value) for value in at_place])
            else:
                columns += [[float(value == one) for value in at_place] for one in values]
    return np.array(columns, dtype=np.float64).T


def _number(value: float | None) -> float:
    return np.nan if value is None else value

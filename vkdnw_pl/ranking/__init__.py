"""Rankings by the sum of the logarithms of the ranks under several proxies, and their agreement with accuracies."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vkdnw_pl.errors import nearest
from vkdnw_pl.ranking.agreement import agreement_weights

Array = np.ndarray[Any, np.dtype[np.float64]]
METRICS = ("kendall", "spearman", "ndcg")
Term = str | tuple[str, ...]
"""What one rank is made of: a column, several of which each decides where all before it are equal, or a `RankSum`."""


class RankSum(tuple[str, ...]):
    """Columns whose ranks are added and ranked again, as TE-NAS does; written ``rank_sum(a,b)``."""

    __slots__ = ()


class ByAgreement(tuple[Term, ...]):
    """A whole ranking, whose terms weigh as much as they agree with one another in the population at hand.

    See `agreement.agreement_weights`; written ``agreement(a>b+c+d)``.
    """

    __slots__ = ()


NAMED_SETS: dict[str, tuple[Term, ...]] = {
    "vkdnw_single": (("aleph", "vkdnw"),),
    "vkdnw_agg": (("aleph", "vkdnw"), "jacov", "expressivity", "trainability", "macs"),
    "vkdnw_plus": ("vkdnw", "jacov", "expressivity", "trainability", "macs", "synflow"),
    "az_nas": ("expressivity", "progressivity", "trainability", "macs"),
    "vkdnw_mbv2_official": ("macs", "expressivity", "progressivity", "vkdnw_official", "trainability"),
    "vkdnw_robust": ByAgreement(
        (
            ("log_width", "vkdnw"),
            *("vkdnw", "jacov", "expressivity", "trainability", "macs", "synflow", "naswot", "meco"),
        )
    ),
    "te_nas": (RankSum(("ntk_condition", "linear_regions")),),
    "vkdnw_official_single": (("vkdnw_official_dim", "vkdnw_official"),),
    "vkdnw_official_agg": (("vkdnw_official_dim", "vkdnw_official"), "jacov", "expressivity", "trainability", "macs"),
}
"""The rankings of the paper: VKDNW Section 5 (V, J, E, T, F), AZ-NAS (E, P, T, F) and TE-NAS; what the official
MobileNetV2 search adds up (``vkdnw_mbv2_official``); and this project's ``vkdnw_plus`` (docs/beyond_the_paper.md) and
``vkdnw_robust``."""

_RANK_SUM = re.compile(r"rank_sum\((.*)\)")
_AGREEMENT = re.compile(r"agreement\((.*)\)")
_SPECTRUM = re.compile(r".*_decile_\d+")


def rank_values(values: Any, higher_is_better: bool = True) -> Array:
    """Rank values (n,) from 1 (worst) to n (best); ties share the average rank; not finite ones rank last, tied."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"values has shape {values.shape}; give one value per architecture, shape (n,)")
    return _lexicographic_ranks((values if higher_is_better else -values)[None])


def _lexicographic_ranks(columns: Array) -> Array:
    """Average ranks (n,) of the rows of a table (columns, n): the first column decides, the next ones break ties."""
    columns = _comparable(columns)
    order = _order(columns)
    return _average_ranks(columns[:, order], order)


def _comparable(columns: Array) -> Array:
    return np.where(np.isfinite(columns).all(axis=0), columns, -np.inf)


def _order(columns: Array) -> Any:
    return np.lexsort(columns[::-1]) if len(columns) > 1 else columns[0].argsort()


def _average_ranks(ordered: Array, order: Any) -> Array:
    """Ranks of rows by their own places, given the table (columns, n) in ascending order and whose rows these are."""
    starts = np.flatnonzero(np.r_[True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)])
    lengths = np.diff(starts, append=len(order))
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(starts + (lengths + 1) / 2, lengths)
    return ranks


class GrowingRanks:
    """Ranks of rows that come in parts, to the bit those of all at once: the order is kept, and new rows are inserted.

    For 100,000 rows and a part of 32 that takes a quarter of the time of sorting anew (benchmarks/search_speed).
    """

    def __init__(self, num_columns: int) -> None:
        self._ordered = np.empty((num_columns, 0))
        self._order = np.empty(0, dtype=np.intp)

    def add(self, columns: Array) -> None:
        """Add the rows of a table (columns, m), the first column of which decides, behind those that are there."""
        new, before = _comparable(columns), len(self._order)
        order = _order(new)
        if before < _INSERTED * len(order):
            ordered = np.concatenate([self._ordered, new], axis=1)
            order = _order(ordered)
            self._ordered = ordered[:, order]
            self._order = np.r_[self._order, before + np.arange(new.shape[1])][order]
            return
        new = new[:, order]
        places = [self._place(row) for row in new.T]
        self._ordered = _inserted(self._ordered, places, new)
        self._order = _inserted(self._order, places, before + order)

    def _place(self, row: Array) -> int:
        """Behind the last row that is not greater."""
        low, high = 0, len(self._order)
        for column, value in zip(self._ordered, row):
            part = column[low:high]
            low, high = low + int(part.searchsorted(value)), low + int(part.searchsorted(value, "right"))
        return high

    def ranks(self) -> Array:
        """Average ranks (n,) from 1 on, in the order in which the rows came."""
        return _average_ranks(self._ordered, self._order)


_INSERTED = 50
"""With fewer old rows for each new one, all are sorted anew."""


def _inserted(old: Any, places: Sequence[int], new: Any) -> Any:
    """Each of ``new`` (..., m) in front of what is at its place in ``old`` (..., n); faster than ``np.insert``."""
    pieces = np.split(old, places, axis=-1)
    return np.concatenate([p for i, piece in enumerate(pieces) for p in (piece, new[..., i : i + 1])], axis=-1)


def aggregate(columns: Mapping[str, Any], terms: Sequence[Term], directions: Mapping[str, bool] | None = None) -> Array:
    """Score architectures by the sum over ``terms`` of log(rank / n), at most 0, higher = better.

    A tuple of columns is one rank: lexicographic, its first column decides, the next ones break ties. An architecture
    with a value that is not finite in any column of a term ranks last in that term, tied with the others of that kind.
    Source: AZ-NAS (CVPR 2024) and VKDNW Section 5, whose pairs are ranked densely; here ties share the average rank in
    every term. A column that ``directions`` does not name counts as higher = better. Terms that are `ByAgreement` are
    weighted, see `term_weights`.
    """
    return combine(terms, *_term_ranks(columns, terms, directions))


def term_weights(columns: Mapping[str, Any], terms: ByAgreement) -> dict[str, float]:
    """See `named_weights`; of architectures with these values, as of `aggregate`."""
    return named_weights(terms, *_term_ranks(columns, terms))


def named_weights(terms: ByAgreement, ranks: Sequence[Array], known: Any) -> dict[str, float]:
    """Term, as a user writes it -> its share of all weights; of a term that is there twice the sum. See `combine`."""
    weights: dict[str, float] = {}
    for term, weight in zip(terms, agreement_weights(np.stack(ranks)[:, known]).tolist()):
        weights[term_text(term)] = weights.get(term_text(term), 0.0) + weight
    return weights


def combine(terms: Sequence[Term], ranks: Sequence[Array], known: Any) -> Array:
    """Scores (n,) as of `aggregate`, from the average ranks (n,) under each term.

    ``known`` (n,) tells which architectures have a value under some term. Others, such as failed ones, have no part in
    weights: they are last everywhere, and so would make all terms agree.
    """
    weights = agreement_weights(np.stack(ranks)[:, known]) if isinstance(terms, ByAgreement) else np.ones(len(terms))
    score = np.zeros(len(known))
    for weight, of_term in zip(weights, ranks):
        score += weight * np.log(of_term / max(len(score), 1))
    return score


def _term_ranks(
    columns: Mapping[str, Any], terms: Sequence[Term], directions: Mapping[str, bool] | None = None
) -> tuple[list[Array], Any]:
    """The average ranks (n,) under each term, and which architectures (n,) have a value under some term."""
    if isinstance(terms, str) or not terms or not all(terms):
        raise ValueError(f"terms={terms!r} is not allowed: give at least one column or tuple of columns")
    names = columns_of(terms)
    for name in names:
        if name not in columns:
            hint = nearest(name, columns)
            raise ValueError(f"column {name!r} is not in the score table{hint} (there: {', '.join(columns)})")
    arrays = {name: np.asarray(columns[name], dtype=np.float64) for name in names}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"the columns differ in shape: {shapes}")
    directions = directions or {}
    signed = {name: array if directions.get(name, True) else -array for name, array in arrays.items()}
    tables = [np.stack([signed[name] for name in _names(term)]) for term in terms]
    known = np.any([has_value(table) for table in tables], axis=0)
    return [term_ranks(term, table) for term, table in zip(terms, tables)], known


def term_ranks(term: Term, columns: Array) -> Array:
    """The average ranks (n,) under one term, of the values (columns, n) of its columns, higher = better."""
    if isinstance(term, RankSum):
        # A value that does not exist has the lowest rank and takes part with it.
        return rank_values(np.sum([rank_values(values) for values in columns], axis=0))
    return _lexicographic_ranks(columns)


def has_value(columns: Array) -> Any:
    """Which architectures (n,) have a value under a term, given its columns (columns, n)."""
    return np.isfinite(columns).all(axis=0)


def parse_ranking(ranking: str | Sequence[Term]) -> tuple[Term, ...]:
    """Turn a user's ranking into terms.

    ``agreement(...)`` around what follows is the same terms weighted, `ByAgreement`; nothing may stand beside it.

    A name of `NAMED_SETS`; columns and names joined by ``+`` (``"vkdnw+jacov"``, ``"vkdnw_single+macs"``), where
    ``a>b`` is the pair that is ordered by a, then by b (``"aleph>vkdnw+jacov"``) and ``rank_sum(a,b)`` the sum of
    their ranks; or a list of columns and tuples. An empty name is a ``ValueError``.
    """
    whole = _AGREEMENT.fullmatch(ranking.strip()) if isinstance(ranking, str) else None
    if whole or isinstance(ranking, ByAgreement):
        return ByAgreement(parse_ranking(whole[1] if whole else tuple(ranking)))
    if isinstance(NAMED_SETS.get(ranking.strip() if isinstance(ranking, str) else ""), ByAgreement):
        return NAMED_SETS[str(ranking).strip()]
    terms: list[Term] = []
    for part in ranking.split("+") if isinstance(ranking, str) else ranking:
        summed = _RANK_SUM.fullmatch(part.strip()) if isinstance(part, str) else None
        if summed:
            part = RankSum(summed[1].split(","))
        if isinstance(part, str) and ("agreement(" in part or isinstance(NAMED_SETS.get(part.strip()), ByAgreement)):
            raise ValueError(
                f"ranking={ranking!r} is not allowed: terms that are weighted by their agreement are a whole ranking; write "
                "all of them inside, as in 'agreement(vkdnw+jacov+macs)'"
            )
        names = tuple(name.strip() for name in (part.split(">") if isinstance(part, str) else part))
        if not names or not all(names):
            raise ValueError(f"ranking={ranking!r} has an empty name; write 'aleph>vkdnw+jacov' or 'rank_sum(a,b)'")
        if isinstance(part, RankSum):
            terms.append(RankSum(names))
        elif len(names) > 1:
            terms.append(names)
        else:
            terms.extend(NAMED_SETS.get(names[0], names))
    return tuple(terms)


def available_rankings(columns: Iterable[str]) -> list[str]:
    """The rankings that ``columns`` allow: each column but the deciles of a spectrum, then the complete named sets."""
    columns = list(columns)
    single = [name for name in columns if not _SPECTRUM.fullmatch(name)]
    return single + [name for name, terms in NAMED_SETS.items() if set(columns_of(terms)) <= set(columns)]


def columns_of(terms: Iterable[Term]) -> list[str]:
    """The columns that a ranking needs, in order; one that two terms name comes twice."""
    return [name for term in terms for name in _names(term)]


def term_text(term: Term) -> str:
    """A term as a user writes it."""
    if isinstance(term, RankSum):
        return f"rank_sum({','.join(term)})"
    return ">".join(_names(term))


def weights_text(ranking: str, weights: Mapping[str, float]) -> str:
    """What a user should know of the weights of a ranking here, on one line."""
    shares = ", ".join(f"{term} {weight:.2f}" if weight else f"{term} 0" for term, weight in weights.items())
    why = " (0: constant here, without a value, or against the others)" if 0 in weights.values() else ""
    return f"{ranking} weighs its terms by their agreement here: {shares}{why}"


def _names(term: Term) -> tuple[str, ...]:
    return (term,) if isinstance(term, str) else tuple(term)


def rank_agreement(
    score: Any, accuracy: Any, top_k: int | None, ties: str, places: float = 1.0
) -> dict[str, float | None]:
    """Kendall's tau-b, Spearman's rho, nDCG of scores (n,) for accuracies (n,), by `METRICS`; None: undefined.

    ``accuracy`` may be anything of which more is better; where it is no percentage there is no nDCG, ``top_k`` None: a
    gain of 2^value - 1 has a meaning for percents alone. Scores that are all equal order nothing and have no metric.
    """
    from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho

    has_no_ndcg = top_k is None or len(np.unique(score)) == 1
    values = (
        float(kendall_tau(score, accuracy)),
        float(spearman_rho(score, accuracy)),
        math.nan if has_no_ndcg else float(ndcg(score, accuracy, top_k, ties, places=places)),  # type: ignore[arg-type]
    )
    return {name: None if math.isnan(value) else value for name, value in zip(METRICS, values)}

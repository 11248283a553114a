"""From a ranking to the proxies that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vkdnw_pl.errors import nearest
from vkdnw_pl.ranking import NAMED_SETS, Term
from vkdnw_pl.search.history import COST_COLUMNS

if TYPE_CHECKING:
    from vkdnw_pl.proxies.base import Proxy

Spec = str | Mapping[str, Any]


def term_columns(terms: Iterable[Term]) -> list[str]:
    """Columns that terms name, each once."""
    return list(dict.fromkeys(name for term in terms for name in ([term] if isinstance(term, str) else term)))


def columns_to_look_up(terms: Sequence[Term], extra: Sequence[Spec]) -> list[str]:
    """Columns that a score table must have: those of the ranking, and those of further proxies by their names."""
    names = [spec if isinstance(spec, str) else str(spec.get("label", spec.get("name"))) for spec in extra]
    return [name for name in dict.fromkeys([*term_columns(terms), *names]) if name not in COST_COLUMNS]


def proxies_to_compute(ranking: str, terms: Sequence[Term], extra: Sequence[Spec]) -> list[Proxy]:
    """The proxies that a ranking needs, with their defaults, and further ones.

    Args:
        ranking: as the user wrote it, for errors.
        terms: the same, resolved.
        extra: names, or mappings with ``name`` and parameters. A column of the ranking that one of these has, also by a
            label, is theirs.

    Returns:
        The proxies; what the space knows by itself (``macs``, ``num_params``, ``layers``) needs none.

    Raises:
        ValueError: if a proxy or a column is not known.
    """
    from vkdnw_pl.proxies import PROXIES, make_proxies

    specs = list(extra)
    computed = {column for proxy in (make_proxies(specs) if specs else []) for column in proxy.table_columns}
    for column in term_columns(terms):
        if column in computed or column in COST_COLUMNS:
            continue
        name = column if column in PROXIES else _proxy_with_column(column)
        if name is None:
            raise ValueError(
                f"ranking={ranking!r}: {column!r} is not known{nearest(column, [*PROXIES, *NAMED_SETS])} (known rankings: "
                f"{', '.join(NAMED_SETS)}; columns: {', '.join([*PROXIES, *COST_COLUMNS])}; joined by +)"
            )
        specs.append(name)
        computed.update(make_proxies([name])[0].table_columns)
    proxies = make_proxies(specs) if specs else []
    return [proxy for proxy in proxies if not set(proxy.table_columns) <= set(COST_COLUMNS)]


def _proxy_with_column(column: str) -> str | None:
    """Name of the proxy of which a column is one of several."""
    from vkdnw_pl.proxies import PROXIES

    for name in PROXIES:
        try:
            proxy = PROXIES[name]()
        except TypeError:  # it cannot be made without parameters
            continue
        if column in proxy.table_columns:
            return name
    return None

"""Which proxies rankings need, where a user names a ranking."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from vkdnw_pl.errors import nearest
from vkdnw_pl.ranking import NAMED_SETS, columns_of, parse_ranking


def named_rankings(specs: Sequence[Any]) -> list[str]:
    """Those of the names that stand for a ranking, not for a proxy."""
    return [spec for spec in specs if isinstance(spec, str) and spec in NAMED_SETS]


def with_proxies_of(rankings: Sequence[str], specs: Sequence[Any], known: Collection[str] = ()) -> list[Any]:
    """Proxies as `make_proxies` takes them: ``specs``, and those that rankings need beside them, with their defaults.

    A ranking among ``specs`` stands for the proxies that it needs. A column that one of ``specs`` has, also by a label, is
    theirs; one of ``known`` needs no proxy. A ``ValueError`` names a column that no proxy has.
    """
    from vkdnw_pl.proxies import PROXIES, make_proxies

    if isinstance(specs, str):
        make_proxies(specs)  # which refuses a text
    names = named_rankings(specs)
    proxies = [spec for spec in specs if spec not in names]
    computed = {column for proxy in (make_proxies(proxies) if proxies else []) for column in proxy.table_columns}
    for ranking in [*rankings, *names]:
        for column in columns_of(parse_ranking(ranking)):
            if column in computed or column in known:
                continue
            name = column if column in PROXIES else _proxy_with_column(column)
            if name is None:
                raise ValueError(
                    f"ranking={ranking!r}: {column!r} is not known{nearest(column, [*PROXIES, *NAMED_SETS])} (known "
                    f"rankings: {', '.join(NAMED_SETS)}; columns: {', '.join([*PROXIES, *known])}; joined by +)"
                )
            proxies.append(name)
            computed.update(make_proxies([name])[0].table_columns)
    return proxies


def refuse_for_one(specs: Sequence[Any]) -> None:
    """Refuse rankings among the proxies of one network, which there is nothing to order it with."""
    if names := named_rankings(specs):
        columns = ", ".join(dict.fromkeys(map(str, with_proxies_of([], names))))
        raise ValueError(
            f"proxies: {names[0]!r} is a ranking, which orders several networks by their values of {columns}: of one "
            f"network ask for those proxies"
        )


def _proxy_with_column(column: str) -> str | None:
    """Name of the proxy of which a column is one of several."""
    from vkdnw_pl.proxies import PROXIES

    for name, cls in PROXIES.items():
        try:
            proxy = cls()
        except TypeError:  # it cannot be made without parameters
            continue
        if column in proxy.table_columns:
            return name
    return None

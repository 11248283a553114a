"""Score tables of several spaces with their known accuracies, as ``evaluate`` is given them under ``spaces``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vkdnw_pl.errors import check_choice, nearest, shown
from vkdnw_pl.oracles import NotDownloaded, Oracle, load_oracle
from vkdnw_pl.ranking import ByAgreement, available_rankings, columns_of, parse_ranking, weights_text
from vkdnw_pl.runs.shipped import local_or_shipped
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.evaluation import Terms, choose_rankings, evaluate_table
from vkdnw_pl.scoring.score_tables import join_columns, read_score_tables
from vkdnw_pl.spaces import SPACES


@dataclass(frozen=True)
class SpaceSource:
    """One entry of ``spaces``: where scores and accuracies of a collection of networks are."""

    name: str
    scores: tuple[str, ...]
    """Score tables and run folders, joined by architecture and seed."""
    space: str
    """Search space of the architectures."""
    oracle: str = "auto"
    oracle_path: str | None = None
    oracle_measures: Mapping[str, str] | None = None
    datasets: tuple[str, ...] | None = None
    """Data sets of the oracle to compare with; None: all."""

    @property
    def files(self) -> list[str]:
        """Score tables and run folders, those of the shipped configurations where they were installed."""
        return [local_or_shipped(path) for path in self.scores]


@dataclass(frozen=True)
class SpaceTable:
    """What a `SpaceSource` holds."""

    name: str
    table: ScoreTable
    oracle: Oracle
    datasets: tuple[str, ...]


def space_sources(spaces: Mapping[str, Any]) -> list[SpaceSource]:
    """The entries of ``spaces``; a ``ValueError`` names what is not allowed. Nothing is read."""
    if not spaces:
        raise ValueError(
            "spaces={} is not allowed: give at least one, such as '{nb201: {scores: FILE, oracle: nb201}}'"
        )
    return [_source(name, entry) for name, entry in spaces.items()]


def read_space_tables(sources: Iterable[SpaceSource]) -> tuple[list[SpaceTable], dict[str, str]]:
    """Read scores and accuracies.

    Returns:
        The tables, and the names of spaces whose accuracies have not been downloaded, with what to do about it.

    Raises:
        ValueError: for anything else that cannot be read, and if no space is left.
    """
    tables: list[SpaceTable] = []
    left_out: dict[str, str] = {}
    for source in sources:
        try:
            table = join_columns(read_score_tables(source.files, source.space))
            oracle = load_oracle(source.oracle, source.oracle_path, source.space, source.oracle_measures)
        except NotDownloaded as error:
            left_out[source.name] = str(error)
            continue
        except ValueError as error:
            raise ValueError(f"spaces: {source.name}: {error}") from error
        datasets = source.datasets or oracle.datasets
        for dataset in datasets:
            check_choice(f"spaces: {source.name}: datasets", dataset, oracle.datasets)
        tables.append(SpaceTable(source.name, table, oracle, datasets))
    if not tables:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(f"spaces: the accuracies of none of them are here ({reasons})")
    return tables, left_out


def rankings_of(
    tables: Iterable[SpaceTable], rankings: Iterable[str] | None, baselines: Iterable[str] = (), complete: bool = True
) -> dict[str, dict[str, Terms | str]]:
    """Ranking, the baselines first -> name of the space -> its terms, or why the table does not allow it.

    None stands for all that some table allows. A ranking that no table allows is a ``ValueError``, unless the tables are not
    ``complete``: one that is left out may allow it.
    """
    tables = list(tables)
    if rankings is None:
        rankings = dict.fromkeys(name for space in tables for name in available_rankings(space.table.columns))
    chosen = {
        name: {space.name: _terms(name, space) for space in tables} for name in dict.fromkeys([*baselines, *rankings])
    }
    for name, terms in chosen.items():
        if complete and all(isinstance(reason, str) for reason in terms.values()):
            known = dict.fromkeys(other for space in tables for other in available_rankings(space.table.columns))
            first = next(iter(terms.values()))
            raise ValueError(f"ranking {name!r} is in no table{nearest(name, known)} (of {tables[0].name}: {first})")
    return chosen


def weight_notes(tables: Iterable[SpaceTable], rankings: Mapping[str, Mapping[str, Terms | str]]) -> list[str]:
    """What the terms of rankings that weigh them by their agreement weigh among all networks of each table."""
    notes = []
    for space in tables:
        weighted = {name: terms for name, of in rankings.items() if isinstance(terms := of[space.name], ByAgreement)}
        weights = evaluate_table(space.table, None, weighted).weights
        notes += [f"{space.name}: {weights_text(name, of)}" for name, of in weights.items()]
    return notes


def _terms(ranking: str, space: SpaceTable) -> Terms | str:
    for name in columns_of(parse_ranking(ranking)):
        if name not in space.table.columns:
            return f"the table has no column {name}"
    return choose_rankings(space.table.columns, [ranking])[ranking]


def _source(name: Any, entry: Any) -> SpaceSource:
    where = f"spaces: {name}"
    if not isinstance(name, str) or not name:
        raise ValueError(f"spaces: {shown(name)} is not allowed: a name is a text")
    allowed = [item.name for item in dataclasses.fields(SpaceSource)][1:]
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}={shown(entry)} is not allowed: give '{{scores: FILE, oracle: NAME}}'")
    for key in entry:
        check_choice(f"{where}: option", key, allowed)
    values = {"space": name, **{key: value for key, value in entry.items() if value is not None}}
    lists = {key: values.get(key) for key in ("scores", "datasets")}
    for key, value in lists.items():
        items = [value] if isinstance(value, str) else value
        if key in values and (not isinstance(items, list) or not items or not all(isinstance(i, str) for i in items)):
            raise ValueError(f"{where}: {key}={shown(value)} is not allowed: give a text or a list of texts")
        values |= {key: tuple(items)} if items else {}
    for key in ("space", "oracle", "oracle_path"):
        if not isinstance(values.get(key, ""), str):
            raise ValueError(f"{where}: {key}={shown(values[key])} is not allowed: give a text")
    if "scores" not in values:
        raise ValueError(f"{where} has no scores: give its score table, as in '{{scores: FILE}}'")
    try:
        SPACES.find(values["space"])
    except ValueError as error:
        hint = "" if "space" in entry else "; say with space which search space this is"
        raise ValueError(f"{where}: {error}{hint}") from None
    return SpaceSource(name, **values)

"""What a scoring is to do: the options of ``score``, checked and resolved before anything is written."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vkdnw_pl.errors import check_whole, is_whole, shown
from vkdnw_pl.options import (
    MAX_SEED,
    NETWORKS,
    ComputeOptions,
    NetworkOptions,
    OracleOptions,
    OutOptions,
    ProxyOptions,
    WandbOptions,
    check_rows,
    parse_amount,
)
from vkdnw_pl.oracles import TABLES, load_oracle
from vkdnw_pl.ranking.needed import refuse_for_one
from vkdnw_pl.runs.folder import Record
from vkdnw_pl.runs.table import Key
from vkdnw_pl.scoring.archs import ChosenArchs, MacsLimit, resolve_archs
from vkdnw_pl.scoring.own_images import OwnTask
from vkdnw_pl.scoring.settings import ScoreSettings

if TYPE_CHECKING:
    from vkdnw_pl.oracles import Oracle
    from vkdnw_pl.scoring.evaluation import Terms

DEFAULT_PROXIES = (
    *("vkdnw", "aleph", "macs", "params", "jacov", "expressivity", "progressivity", "trainability", "synflow"),
)


_NETWORK_HELP = (
    "Which of the space's networks are scored: auto (those of your own images where you give some as data or input, else "
    "those that the known accuracies are of, see oracle: for digits 8 channels, 1 cell and grey images of 16 pixels, for the "
    "public tables those of CIFAR-10; else the space's defaults), a data set of the oracle (cifar100, ImageNet16-120: its "
    "networks), or options of the space's networks, such as '{image_size: 16, num_classes: 120}', the others as by default: "
    f"'{{}}' are the defaults. {NETWORKS}"
)


@dataclass(frozen=True)
class Shard:
    """One of ``count`` equal parts of a list: the items whose place, modulo ``count``, is ``index``."""

    index: int
    count: int

    @classmethod
    def parse(cls, shard: str) -> Shard:
        """Read ``"i/n"`` with i from 0 to n - 1."""
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", shard)
        if not match or int(match[1]) >= int(match[2]):
            raise ValueError(f"shard={shown(shard)} is not allowed: give i/n with i from 0 to n - 1, such as 0/4")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[str]) -> list[str]:
        """Return this part of ``items``."""
        return list(items[self.index :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_seeds(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    """Turn ``1``, ``[1, 2, 3]`` or ``"1..5"`` (both ends included) into seeds, none negative, none twice."""
    how = "give a whole number from 0 to 2^63 - 1, a list such as [1, 2, 3], or a range such as 1..5"
    if isinstance(seeds, str):
        match = re.fullmatch(r"\s*([0-9]{1,19})(?:\s*\.\.\s*([0-9]{1,19}))?\s*", seeds)
        if not match:
            raise ValueError(f"seeds={shown(seeds)} is not allowed: {how}")
        first = int(match[1])
        last = int(match[2] or first)
        check_rows("seeds", seeds, last - first + 1)
        values: list[Any] = list(range(first, last + 1))
    else:
        values = list(seeds) if isinstance(seeds, list | tuple | range) else [seeds]
    if not values or not all(is_whole(seed, 0, MAX_SEED) for seed in values):
        raise ValueError(f"seeds={shown(seeds)} is not allowed: {how}")
    if len(set(values)) < len(values):
        raise ValueError(f"seeds={shown(seeds)} is not allowed: a seed repeats")
    return tuple(values)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(NetworkOptions, ProxyOptions, OracleOptions, ComputeOptions, OutOptions, WandbOptions):
    """Options of ``score``."""

    archs: str | list[str] = "auto"
    """Architectures: auto (those that the space has by default: nb201 digits, nasbench_macro sample:100, nats_sss
    oracle), digits (nb201: those of the embedded accuracy table), oracle (those of the table chosen by oracle), sample:N
    (N different ones at random), all, unique (one for each network: 9,445 of nb201's 15,625, 3,969 of nasbench_macro's
    6,561), a pattern such as 'mobilenet*', a file (one architecture per line, CSV with a column arch, or the found.json
    of a search: its best ones), one architecture, or a list. mbv2: a name such as mbv2_480m, or a structure string.
    nb201: the benchmark's string, or integers that say whose they are, 'naslib:(4, 0, 3, 1, 4, 3)' or 'index:(3, 3, 3,
    1, 2, 2)'; in a CSV file a column coding can say it."""
    network: dict[str, Any] | str | None = field(  # type: ignore[assignment]  # wider than that of other commands
        default="auto", metadata={"help": _NETWORK_HELP}
    )
    """Which of the space's networks are scored."""
    archs_seed: int = 0
    """Decides which architectures sample:N draws."""
    max_macs: int | float | str | None = None
    """Leave out architectures with more multiply-adds per image, counted at the space's usual size of images; such as
    450e6, 450M or 0.45G."""
    proxies: list[str | dict[str, Any]] = field(default_factory=lambda: list(DEFAULT_PROXIES))
    seeds: int | str | list[int] = 1
    """Seeds of initialisation and input: 1, '[1,2,3]' or 1..5. With several, metrics are means and standard deviations over
    them."""
    rankings: list[str] | None = None
    """Rankings to evaluate: columns, the named sets vkdnw_single, vkdnw_agg, vkdnw_robust, az_nas, te_nas, or own ones such as
    'aleph>vkdnw+jacov' (log-ranks of the pair and of jacov added). Default: all that the proxies allow."""
    top_k: int = 1000
    """nDCG looks at this many architectures from the top of a ranking."""
    shard: str | None = None
    """Score only part i of n, for array jobs: i/n with i from 0. Give each its own out; then run merge."""
    retry_failed: bool = False
    """Score again what failed in an earlier run."""

    @property
    def network_options(self) -> dict[str, Any]:
        """Those that were given; none where the oracle knows them."""
        return {} if isinstance(self.network, str) else super().network_options

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_seeds(self.seeds)
        if self.shard is not None:
            Shard.parse(self.shard)
        check_whole("archs_seed", self.archs_seed, 0)
        check_whole("top_k", self.top_k, 1)
        if not (isinstance(self.archs, str) and self.archs.startswith("sample:")):
            self.refuse("without archs=sample:N, which it is the seed of", "archs_seed")
        if self.overwrite:
            self.refuse("with overwrite, which deletes what failed too", "retry_failed")
        if self.oracle is None:
            self.refuse("with oracle=null: there are no metrics", "top_k")
        parse_amount("max_macs", self.max_macs)


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """What a scoring is to do."""

    settings: ScoreSettings
    shard: Shard | None
    keys: list[Key]
    """Rows to make, in the order of the table."""
    columns: tuple[str, ...]
    resolved: Mapping[str, Any]
    """Options of which the images or the accuracies decide what they are."""
    why_network: str
    """Where the options of the networks come from, for the user."""
    oracle: Oracle | None
    """None where none is known for the space, and for a shard, which is not evaluated."""
    rankings: Mapping[str, Terms]
    workers: int
    notes: list[str]
    """What the user should know of these options."""

    @property
    def archs(self) -> Sequence[str]:
        """Architectures of this run or shard, in order."""
        return self.settings.archs if self.shard is None else self.shard.of(self.settings.archs)

    @property
    def record(self) -> Record:
        """What a run folder must have been made with to be continued."""
        return {**self.settings.record(), "shard": None if self.shard is None else str(self.shard)}

    @property
    def default_out(self) -> str:
        """A run folder that the same settings lead to again."""
        name = f"runs/{self.settings.space}-{self.settings.digest()}"
        return name if self.shard is None else f"{name}-shard-{self.shard.index}-of-{self.shard.count}"


def plan_scoring(options: ScoreOptions) -> ScorePlan:
    """Resolve the options, the quick things first."""
    space = options.search_space
    shard = None if options.shard is None else Shard.parse(options.shard)
    needs_oracle = shard is None or isinstance(options.network, str)
    oracle = options.find_oracle(space.key) if needs_oracle else None
    own = OwnTask.of(options)
    chosen = _choose_archs(options, _choose_network(options, oracle, {}, own)[0])
    network, why_network = _choose_network(options, oracle, chosen.network, own)
    resolved = {"network": network, **own.sources(options, network)}
    options = replace(options, **resolved)
    space.check_network(chosen.archs[0], **network)
    seeds = parse_seeds(options.seeds)
    own_archs = chosen.archs if shard is None else shard.of(chosen.archs)
    if not own_archs:
        raise ValueError(f"shard={options.shard!r} is empty: there are only {len(chosen.archs)} architectures")
    check_rows("seeds", options.seeds, len(own_archs) * len(seeds))
    if options.progress:
        print("loading PyTorch ...", file=sys.stderr, flush=True)

    from vkdnw_pl.proxies.base import sample_notes
    from vkdnw_pl.scoring.evaluation import choose_rankings

    if len(chosen.archs) == 1:
        refuse_for_one(options.proxies)
    proxies = options.make_proxies()
    columns = tuple(column for proxy in proxies for column in proxy.table_columns)
    rankings = choose_rankings(columns, options.rankings)
    options.check_images(proxies, space.input_size(**network), space.num_classes(**network), seeds[0])
    device = options.resolve_device()
    notes = sample_notes(proxies, options.batch_size)
    if own.where and oracle is not None and options.oracle == "auto":
        notes.append(
            "the known accuracies are of networks trained on other images than yours; label makes a table of your own"
        )
    return ScorePlan(
        settings=ScoreSettings(
            space=space.key,
            network=network,
            archs=chosen.archs,
            proxies=[proxy.record() for proxy in proxies],
            seeds=seeds,
            batch_size=options.batch_size,
            input=options.input,
            data=options.data if any(proxy.input == "data" for proxy in proxies) else None,
            init=options.init,  # type: ignore[arg-type]  # checked by make_proxies
            device=device,
        ),
        shard=shard,
        keys=[(arch, seed) for arch in own_archs for seed in seeds],
        columns=columns,
        resolved=resolved,
        why_network=why_network,
        oracle=oracle if shard is None else None,
        rankings=rankings,
        workers=options.resolve_workers(device),
        notes=notes,
    )


def _choose_network(
    options: ScoreOptions, oracle: Oracle | None, found: Mapping[str, Any], own: OwnTask
) -> tuple[dict[str, Any], str]:
    """Options of the networks, and where they come from; ``found`` are those of the file of the architectures."""
    if own.where and options.network == "auto":
        return own.network(found), own.why
    network, why = _choose_without_images(options, oracle, found)
    return own.network(network), why


def _choose_without_images(
    options: ScoreOptions, oracle: Oracle | None, found: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    if not isinstance(options.network, str):
        return {**found, **options.network_options}, "as given"
    if options.network != "auto":
        if oracle is None:
            raise ValueError(
                f"network={options.network!r} is not allowed without known accuracies: give options, or auto"
            )
        return oracle.network(options.network), f"those of the accuracies on {options.network}"
    if found:
        return dict(found), f"those of {options.archs}"
    if oracle is None or not oracle.networks:
        return {}, "no known accuracies are of others"
    first, *others = oracle.networks
    ways_out = " or ".join([*others, "'{...}'"])
    return oracle.network(first), f"those of the accuracies on {first} (for others: --network {ways_out})"


def _choose_archs(options: ScoreOptions, network: Mapping[str, Any]) -> ChosenArchs:
    """The architectures that the options ask for; at least one."""
    space = options.search_space
    limit = None
    if (max_macs := parse_amount("max_macs", options.max_macs)) is not None:
        limit = MacsLimit(max_macs, space, network, quiet=not options.progress)

    def oracle_archs(which: str) -> list[str]:
        if which == "oracle":
            return _archs_of_oracle(options)
        if TABLES[which] != space.key:
            raise ValueError(
                f"archs={which!r} is the embedded table of {TABLES[which]} and has no use with "
                f"space={space.name!r}; give --archs {space.examples}"
            )
        return load_oracle(which).archs

    try:
        chosen = resolve_archs(options.archs, space, oracle_archs, options.archs_seed, limit)
    finally:
        if limit is not None:
            limit.keep()
    if limit is not None and limit.uncounted:
        arch, reason = next(iter(limit.uncounted.items()))
        print(
            f"left out, because their MACs cannot be counted: {len(limit.uncounted)} architectures, the first is {arch} "
            f"({reason})",
            file=sys.stderr,
        )
    return chosen


def _archs_of_oracle(options: ScoreOptions) -> list[str]:
    if options.oracle is None:
        raise ValueError("archs='oracle' has no use with oracle=null; name the table of accuracies")
    archs = load_oracle(options.oracle, options.oracle_path, options.search_space.key, options.oracle_measures).archs
    available = options.search_space.available(archs)
    names = set(available)
    if missing := [arch for arch in archs if arch not in names]:
        print(
            f"left out, because what is installed does not have them: {len(missing)} architectures of the table, the first "
            f"is {missing[0]}",
            file=sys.stderr,
        )
    return available

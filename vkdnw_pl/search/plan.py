"""What a search is to do: the options of ``search``, checked and resolved before anything is written."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vkdnw_pl.errors import check_whole
from vkdnw_pl.options import (
    MAX_SEED,
    ComputeOptions,
    NetworkOptions,
    OracleOptions,
    OutOptions,
    ProxyOptions,
    WandbOptions,
    check_batch,
    check_rows,
    parse_amount,
)
from vkdnw_pl.oracles import TABLES, Oracle, load_oracle
from vkdnw_pl.oracles.latency_table import read_latencies
from vkdnw_pl.ranking import Term, aggregate, columns_of, parse_ranking
from vkdnw_pl.scoring.own_images import OwnTask
from vkdnw_pl.search.constraints import Budget, CostCheck, HowToMeasure
from vkdnw_pl.search.history import COST_COLUMNS, LABEL, PREDICTED
from vkdnw_pl.search.labels import Labels
from vkdnw_pl.search.pareto import check_objectives
from vkdnw_pl.search.predictor import PredictorSearch
from vkdnw_pl.search.scores import TableScores, columns_to_look_up, proxies_to_compute
from vkdnw_pl.search.settings import STRATEGIES, SearchSettings, make_strategy
from vkdnw_pl.spaces import Space, make_space
from vkdnw_pl.spaces.resolve import resolve_arch

if TYPE_CHECKING:
    from vkdnw_pl.proxies.base import Proxy

DEFAULT_RANKING = "vkdnw_robust"
_UNIFORM = "uniform"


@dataclass(frozen=True, kw_only=True)
class SearchOptions(NetworkOptions, ProxyOptions, OracleOptions, ComputeOptions, OutOptions, WandbOptions):
    """Options of ``search``."""

    space: str = "mbv2"
    strategy: Literal["evolution", "ageing", "random", "local", "predictor", "pareto"] = "evolution"
    """How to search. evolution mutates the best of all networks so far; ageing mutates the best of a random choice of
    recent ones; random draws from the space; local looks at the neighbours of the best, and begins anew at a local optimum;
    predictor evaluates what a forest trained on all labels so far thinks best; pareto (NSGA-II) looks for the best
    compromises between several objectives."""
    evaluations: int = 1000
    """Networks to evaluate in all; more than before continues a finished search."""
    population: int = 256
    """evolution, pareto: parents are the best so many of all networks; ageing: the latest so many."""
    tournament: int = 10
    """ageing: a parent is the best of so many that are drawn from the population."""
    objectives: list[str] = field(default_factory=lambda: ["score", "macs"])
    """pareto: what to look at: score (the ranking), macs, num_params, layers, latency_ms, peak_mb (less is better), or
    columns of proxies."""
    start: str | None = None
    """evolution, local, pareto: network to begin with: a name such as mbv2_480m, a structure string, or a found.json. Default:
    mbv2_initial for mbv2, random networks for nb201."""
    labels: str | None = None
    """Known accuracies that guide the search, named as oracle names them: each network that is evaluated costs one label, and
    only networks that have one are proposed. What best means is then label, or a ranking with it. Any strategy but pareto
    may be guided; predictor must be."""
    dataset: str | None = None
    """labels: the data set, where there are several."""
    pool: int = 256
    """predictor: new networks that are drawn for each batch, of which those with the best predictions are evaluated. Their
    proxies (proxies, scores) are looked up or computed."""
    operator_sampling: Literal["uniform", "reference"] = "uniform"
    """mbv2: types of blocks are drawn uniformly, or with the weights of the published search code."""
    batch: int = 32
    """Networks that are proposed from one state of the search; they are shared out over the workers. The result depends on
    it, and not on the number of workers."""
    max_macs: int | float | str | None = None
    """Budget: multiply-adds of one image, for example 450e6, 450M or 0.45G."""
    min_macs: int | float | str | None = None
    """The same, a lower bound."""
    max_params: int | float | str | None = None
    """Budget: parameters, written in the same way."""
    min_params: int | float | str | None = None
    """The same, a lower bound."""
    max_layers: int | None = None
    """Budget: number of layers (mbv2: sub-layers; nb201: convolutions of the cell)."""
    min_layers: int | None = None
    """The same, a lower bound."""
    counting: bool | str = "true"
    """How the budget counts MACs and parameters: true, or reference (mbv2: as the published search code does, which differs
    by a few percent)."""
    max_latency_ms: float | None = None
    """Budget: time of a forward pass of one batch in milliseconds, measured on the device (on CPU with one thread)."""
    latency_table: str | None = None
    """CSV file with the latency in ms of architectures, FILE.csv or FILE.csv#COLUMN, in place of measuring it; what it does
    not know counts as over max_latency_ms."""
    max_peak_mb: float | None = None
    """Budget: most memory that a forward pass of one batch takes, in megabytes."""
    measure_batch_size: int = 32
    """Images per batch where time and memory are measured."""
    measure_warmup: int = 3
    """Passes before the first that is timed."""
    measure_repeats: int = 10
    """Passes that are timed; the median counts."""
    ranking: str | None = None
    """What best means (default: vkdnw_robust; with labels: label): a named set (vkdnw_robust, vkdnw_agg, vkdnw_single, az_nas,
    vkdnw_mbv2_official, ...), or own ones such as 'aleph>vkdnw+jacov+macs' (log-ranks added) or 'agreement(vkdnw+jacov+macs)'
    (weighed by how far they agree). The proxies that it needs are computed."""
    proxies: list[str | dict[str, Any]] = field(default_factory=list)
    """Further proxies, or other parameters for those of the ranking; for example '[params, {name: vkdnw, alpha: 0.1}]'."""
    scores: str | None = None
    """Score table (scores.csv of a run of score) to look proxy values up in, in place of computing them."""
    seed: int = 0
    """Decides all random choices of the search."""
    proxy_seed: int = 1
    """Seed of weights and images of the proxies; with scores, the rows of the table that count."""
    oracle: str | None = None
    """Known accuracies, or other measured properties, to be shown beside what was found; named as for score. They have no
    part in the search; what guides it is labels, which are shown too."""
    top_k: int = 10
    """found.json describes this many of the best."""
    nodes: int = 1
    """Machines; more than 1 are started with srun or torchrun, with so many processes on each as there are workers."""
    figures: bool = True
    """Draw the figures of the run folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("evaluations", "batch", "top_k", "nodes"):
            check_whole(name, getattr(self, name), 1)
        check_rows("evaluations", self.evaluations, self.evaluations)
        for name in ("seed", "proxy_seed"):
            check_whole(name, getattr(self, name), 0, most=MAX_SEED)
        self.how_to_measure("cpu")
        if self.strategy in STRATEGIES:
            options = {name for strategy in STRATEGIES.values() for name in strategy.options} - {"start"}
            self.refuse(f"with strategy={self.strategy!r}", *options.difference(STRATEGIES[self.strategy].options))
        if self.labels is None:
            self.refuse("without labels", "dataset")
        if self.strategy == PredictorSearch.name:
            check_whole("pool", self.pool, self.batch)  # a batch is chosen from it
        if not self.budget.measured:
            self.refuse("without max_latency_ms or max_peak_mb: nothing is measured", "measure_batch_size")
        if self.max_latency_ms is None:
            self.refuse(
                "without max_latency_ms: nothing is timed", "measure_warmup", "measure_repeats", "latency_table"
            )
        if self.latency_table is not None:
            self.refuse("with latency_table: nothing is timed", "measure_warmup", "measure_repeats")
            if self.max_peak_mb is None:
                self.refuse("with latency_table: nothing is measured", "measure_batch_size")
        if self.scores is not None:
            self.refuse("with scores, which are looked up", "batch_size", "input", "data", "init", "row_timeout")
        self.budget.check_space(self.search_space)
        if not any((self.max_macs, self.min_macs, self.max_params, self.min_params)) and self.counting == "reference":
            raise ValueError("counting='reference' has no use without a bound on macs or params; leave it out")

    @property
    def search_space(self) -> Space:
        """The space, with the options that only a search has."""
        options = {} if self.operator_sampling == _UNIFORM else {"operator_sampling": self.operator_sampling}
        return make_space(self.space, options)

    @property
    def budget(self) -> Budget:
        """The bounds; ``ValueError`` if one is not allowed."""
        amounts = ("max_macs", "min_macs", "max_params", "min_params")
        bounds = ("max_layers", "min_layers", "max_latency_ms", "max_peak_mb")
        return Budget(
            **{name: parse_amount(name, getattr(self, name)) for name in amounts},
            **{name: getattr(self, name) for name in bounds},
            # YAML reads true as a truth value
            counting="true" if self.counting is True else self.counting,  # type: ignore[arg-type]
        )

    def how_to_measure(self, device: str) -> HowToMeasure:
        """How latency and memory are measured; ``ValueError`` if an option is not allowed."""
        return HowToMeasure(
            batch_size=self.measure_batch_size, warmup=self.measure_warmup, repeats=self.measure_repeats, device=device
        )


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a search is to do."""

    settings: SearchSettings
    resolved: Mapping[str, Any]
    """Options of which the user's own images decide what they are."""
    why_network: str
    """Where those of the networks come from, for the user; empty where they are as given."""
    workers: int
    """Processes of each machine."""
    helps: bool
    """This process only helps the first one, which is on another machine or was started beside it."""
    oracle: Oracle | None
    notes: list[str]
    """What the user should know of these options."""

    @property
    def default_out(self) -> str:
        """A run folder that the same settings lead to again."""
        return f"runs/search-{self.settings.space}-{self.settings.digest()}"


def plan_search(options: SearchOptions) -> SearchPlan:
    """Resolve the options, the quick things first; ``ImportError`` if the strategy lacks its package."""
    rank = _rank(options.nodes)
    own = OwnTask.of(options)
    resolved: dict[str, Any] = {}
    if own.where:
        resolved["network"] = own.network(options.network_options)
        resolved |= own.sources(options, resolved["network"])
        options = replace(options, **resolved)
    ranking = options.ranking
    if ranking is None:
        ranking = DEFAULT_RANKING if options.labels is None else LABEL
    space, network = options.search_space, options.network_options
    start = _start(options, space)
    strategy_options = (options.population, options.tournament, start, options.objectives, options.pool)
    make_strategy(options.strategy, space, *strategy_options)
    check_batch("measure_batch_size", options.measure_batch_size, space.input_size(**network))
    if start is not None:  # refuses network options that no network of the space can have, such as in_channels
        CostCheck(options.budget, space, network)(start)
    if options.latency_table is not None:
        fastest = min(read_latencies(options.latency_table, space).values())
        if options.max_latency_ms is not None and fastest > options.max_latency_ms:
            raise ValueError(
                f"max_latency_ms={options.max_latency_ms} is not allowed: the fastest network of latency_table="
                f"{options.latency_table!r} takes {fastest:g} ms"
            )
    terms = parse_ranking(ranking)
    if "layers" in columns_of(terms) and space.layers(space.sample(random.Random(0))) is None:
        raise ValueError(f"ranking={ranking!r}: {space.name} counts no layers; rank by aleph instead")
    oracle, labels = _oracles(options, space, ranking, terms)
    columns, proxies, device = _values(options, space, ranking, terms)
    if labels is not None and (taken := {LABEL, PREDICTED}.intersection(columns)):
        raise ValueError(f"proxies: the column {taken.pop()!r} is not allowed with labels, which have it")
    if "objectives" in STRATEGIES[options.strategy].options:
        _check_objectives(options, columns)
    if options.nodes > 1 and not proxies:
        raise ValueError(f"nodes={options.nodes} has no use here: there is no proxy to compute; leave it out")
    settings = SearchSettings(
        space=space.key,
        network=network,
        space_options=space.parameters(),
        strategy=options.strategy,
        population=options.population,
        tournament=options.tournament,
        start=start,
        objectives=options.objectives,
        pool=options.pool,
        labels=labels,
        budget=options.budget,
        how_to_measure=options.how_to_measure(device),
        latency_table=options.latency_table,
        ranking=ranking,
        terms=terms,
        columns=columns,
        proxies=[proxy.record() for proxy in proxies],
        scores=options.scores,
        batch=options.batch,
        seed=options.seed,
        proxy_seed=options.proxy_seed,
        batch_size=options.batch_size,
        input=options.input,
        data=options.data if any(proxy.input == "data" for proxy in proxies) else None,
        init=options.init,  # type: ignore[arg-type]  # checked with the proxies
        device=device,
    )
    settings.make_strategy(space)  # refuses tables that leave nothing to draw
    workers = options.resolve_workers(device) if proxies else 1
    notes = [] if oracle is None else oracle.doubts()
    if proxies:
        from vkdnw_pl.proxies.base import sample_notes

        notes += sample_notes(proxies, options.batch_size)
    return SearchPlan(
        settings=settings,
        resolved=resolved,
        why_network=own.why if own.where else "",
        workers=workers,
        helps=rank > 0,
        oracle=oracle,
        notes=notes,
    )


def _rank(nodes: int) -> int:
    """Number of this process among all that were started for this search on several machines."""
    if nodes == 1:
        return 0
    for name in ("RANK", "SLURM_PROCID"):  # torchrun, srun
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    raise ValueError(
        f"nodes={nodes} is not allowed here: start the command on every machine with srun, or with torchrun --nnodes "
        f"{nodes} ... -m vkdnw_pl search ..."
    )


def _check_objectives(options: SearchOptions, columns: Sequence[str]) -> None:
    check_objectives(options.objectives, columns)
    for name, bound in (("latency_ms", options.max_latency_ms), ("peak_mb", options.max_peak_mb)):
        if name in options.objectives and bound is None:
            raise ValueError(
                f"objectives: {name} is measured only where max_{name} is given (a large one bounds nothing)"
            )


def _start(options: SearchOptions, space: Space) -> str | None:
    """Canonical architecture that the search begins with; None where it begins with samples."""
    takes_start = "start" in STRATEGIES[options.strategy].options
    if options.start is None:
        return space.validate(space.search_start) if takes_start and space.search_start is not None else None
    if not takes_start:
        return options.start  # refused with the strategy's reason
    try:
        return resolve_arch(options.start, space).arch
    except ValueError as error:
        raise ValueError(f"start={options.start!r} is not allowed: {error}") from None


def _oracles(
    options: SearchOptions, space: Space, ranking: str, terms: Sequence[Term]
) -> tuple[Oracle | None, Labels | None]:
    """The accuracies to show, and those that guide the search."""
    guided = LABEL in columns_of(terms)
    if options.labels is None:
        for needs, what in ((guided, f"ranking={ranking!r}"), (options.strategy == PredictorSearch.name, "predictor")):
            if needs:
                raise ValueError(f"{what} needs known accuracies: name them with labels, as oracle names them")
        return options.find_oracle(space.key), None
    if not guided or (options.strategy == PredictorSearch.name and list(terms) != [LABEL]):
        raise ValueError(
            f"ranking={ranking!r} is not allowed with labels and strategy={options.strategy!r}: leave it out to look for the "
            f"best label, or leave labels out"
        )
    # Where accuracies to show are named too, the folder may be theirs.
    path = options.oracle_path if options.oracle is None or options.labels in TABLES else None
    try:
        source = load_oracle(options.labels, path, space.key)
        labels = Labels.of(source, options.dataset, space)
    except ValueError as error:
        raise ValueError(f"labels={options.labels!r} is not allowed: {error}") from None
    return source if options.oracle in (None, options.labels) else options.find_oracle(space.key), labels


def _values(
    options: SearchOptions, space: Space, ranking: str, terms: Sequence[Term]
) -> tuple[tuple[str, ...], list[Proxy], str]:
    """Value columns of the history, the proxies that are computed, and the device."""
    if options.scores is not None:
        columns = columns_to_look_up(terms, options.proxies)
        if not Path(options.scores).expanduser().is_file():
            raise ValueError(f"scores={options.scores!r} is not allowed: there is no such file; give a score table")
        TableScores(options.scores, space, columns, options.proxy_seed)
        aggregate({name: [] for name in columns_of(terms)}, terms)
        return tuple(columns), [], "cpu"
    if options.progress:
        print("loading PyTorch ...", file=sys.stderr, flush=True)
    proxies = proxies_to_compute(ranking, options.proxies)
    columns = [column for proxy in proxies for column in proxy.table_columns if column not in COST_COLUMNS]
    if proxies:
        network = options.network_options
        options.check_proxies(proxies)
        options.check_images(proxies, space.input_size(**network), space.num_classes(**network), options.proxy_seed)
    return tuple(columns), proxies, options.resolve_device()

"""What a call of ``search`` asks for: its options, checked and resolved before anything is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkdnw_pl.oracles import Oracle, load_oracle
from vkdnw_pl.ranking import aggregate, parse_ranking
from vkdnw_pl.runs.cores import usable_cores
from vkdnw_pl.scoring.options import check_workers
from vkdnw_pl.search.columns import columns_to_look_up, proxies_to_compute, term_columns
from vkdnw_pl.search.constraints import Budget, CostCheck, parse_amount
from vkdnw_pl.search.history import COST_COLUMNS
from vkdnw_pl.search.measuring import HowToMeasure
from vkdnw_pl.search.scores import TableScores
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.search.strategies import BEGIN_AT_A_START, PARETO, make_strategy
from vkdnw_pl.spaces import Space, make_space
from vkdnw_pl.spaces.resolve import resolve_arch

if TYPE_CHECKING:
    from vkdnw_pl.proxies.base import Proxy

SPACE_OPTIONS = {"operator_sampling": "uniform"}
"""Options that only some spaces have (`Space.search_options`), and the values that stand for their defaults."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The options, checked and resolved."""

    settings: SearchSettings
    evaluations: int
    top_k: int
    workers: int
    """Processes of each machine."""
    nodes: int
    row_timeout: float | None
    helps: bool
    """This process only helps the first one, which is on another machine or was started beside it."""
    oracle: Oracle | None


def plan_search(options: Mapping[str, Any]) -> SearchPlan:
    """Check everything that the user gave, the quick things first.

    Raises:
        ValueError: for the first option that is not allowed.
        ImportError: if the strategy lacks its package.
    """
    for name, least in (
        ("evaluations", 1),
        ("batch", 1),
        ("top_k", 1),
        ("seed", 0),
        ("proxy_seed", 0),
        ("batch_size", 1),
    ):
        _check_whole(name, options[name], least)
    check_workers(options["workers"])
    rank = _rank(options["nodes"])
    space_options = {name: options[name] for name, default in SPACE_OPTIONS.items() if options[name] != default}
    space, network = make_space(options["space"], space_options), dict(options["network"] or {})
    space.num_classes(**network)  # refuses unknown options and values
    budget = _budget(options)
    start = _start(options, space)
    objectives = tuple(options["objectives"])
    make_strategy(options["strategy"], space, options["population"], options["tournament"], start, objectives)
    check = CostCheck(budget, space, network)
    if start is not None:
        check(start)  # refuses network options that no network of the space can have, such as in_channels
    terms = parse_ranking(options["ranking"])
    oracle = _oracle(options, space)
    columns, proxies, device = _values(options, space, network, terms)
    if options["strategy"] == PARETO:
        _check_objectives(objectives, columns, budget)
    available = _available(device)
    if device == "cuda" and options["workers"] != "auto" and options["workers"] > available:
        raise ValueError(
            f"workers={options['workers']} is not allowed: with CUDA there is one per GPU, here {available}"
        )
    workers = available if options["workers"] == "auto" else options["workers"]
    nodes = options["nodes"]
    if nodes > 1 and not proxies:
        raise ValueError(f"nodes={nodes} has no use here: there is no proxy to compute; leave it out")
    settings = SearchSettings(
        space=space.key,
        network=network,
        space_options=space.parameters(),
        strategy=options["strategy"],
        population=options["population"],
        tournament=options["tournament"],
        start=start,
        objectives=objectives,
        budget=budget,
        how_to_measure=HowToMeasure(
            batch_size=options["measure_batch_size"],
            warmup=options["measure_warmup"],
            repeats=options["measure_repeats"],
            device=device,
        ),
        ranking=options["ranking"],
        terms=terms,
        columns=columns,
        proxies=[proxy.record() for proxy in proxies],
        scores=options["scores"],
        batch=options["batch"],
        seed=options["seed"],
        proxy_seed=options["proxy_seed"],
        batch_size=options["batch_size"],
        input=options["input"],
        data=options["data"] if any(proxy.input == "data" for proxy in proxies) else None,
        init=options["init"],
        device=device,
    )
    return SearchPlan(
        settings=settings,
        evaluations=options["evaluations"],
        top_k=options["top_k"],
        workers=(workers if nodes > 1 else min(workers, options["batch"])) if proxies else 1,
        nodes=nodes,
        row_timeout=options["row_timeout"],
        helps=rank > 0,
        oracle=oracle,
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


def _check_objectives(objectives: Sequence[str], columns: Sequence[str], budget: Budget) -> None:
    from vkdnw_pl.search.pareto import check_objectives

    check_objectives(objectives, columns)
    for name, bound in (("latency_ms", budget.max_latency_ms), ("peak_mb", budget.max_peak_mb)):
        if name in objectives and bound is None:
            raise ValueError(
                f"objectives: {name} is measured only where max_{name} is given (a large one bounds nothing)"
            )


def _budget(options: Mapping[str, Any]) -> Budget:
    amounts = ("max_macs", "min_macs", "max_params", "min_params")
    others = ("max_layers", "min_layers", "max_latency_ms", "max_peak_mb")
    counting: Any = "true" if options["counting"] is True else options["counting"]  # YAML reads true as a truth value
    return Budget(
        **{name: parse_amount(name, options[name]) for name in amounts},
        **{name: options[name] for name in others},
        counting=counting,
    )


def _start(options: Mapping[str, Any], space: Space) -> str | None:
    """Canonical architecture that the search begins with; None where it begins with samples."""
    start = options["start"]
    if start is None:
        if options["strategy"] not in BEGIN_AT_A_START or space.search_start is None:
            return None
        return space.validate(space.search_start)
    if options["strategy"] not in BEGIN_AT_A_START:
        return start  # refused with the strategy's reason
    try:
        return resolve_arch(start, space).arch
    except ValueError as error:
        raise ValueError(f"start={start!r} is not allowed: {error}") from None


def _oracle(options: Mapping[str, Any], space: Space) -> Oracle | None:
    if options["oracle"] is None:
        if options["oracle_path"] is not None:
            raise ValueError(f"oracle_path={options['oracle_path']!r} has no use without oracle; give --oracle nb201")
        return None
    return load_oracle(options["oracle"], options["oracle_path"], space.key)


def _values(
    options: Mapping[str, Any], space: Space, network: Mapping[str, Any], terms: Sequence[Any]
) -> tuple[tuple[str, ...], list[Proxy], str]:
    """Value columns of the history, the proxies that are computed, and the device."""
    if options["scores"] is not None:
        columns = columns_to_look_up(terms, options["proxies"])
        if not Path(options["scores"]).expanduser().is_file():
            raise ValueError(f"scores={options['scores']!r} is not allowed: there is no such file; give a score table")
        TableScores(options["scores"], space, columns, options["proxy_seed"])
        aggregate({name: [] for name in term_columns(terms)}, terms)
        return tuple(columns), [], "cpu"
    if options["progress"]:
        print("loading PyTorch ...", file=sys.stderr, flush=True)
    proxies = proxies_to_compute(options["ranking"], terms, options["proxies"])
    columns = [c for proxy in proxies for c in proxy.table_columns if c not in COST_COLUMNS]
    device = _device(options["device"])
    if proxies:
        _check_images(options, space, network, proxies)
    return tuple(columns), proxies, device


def _check_images(
    options: Mapping[str, Any], space: Space, network: Mapping[str, Any], proxies: Sequence[Proxy]
) -> None:
    from vkdnw_pl.data.batches import image_batch
    from vkdnw_pl.networks.init import INITS
    from vkdnw_pl.proxies.scoring import check_samples

    if options["init"] not in ("auto", *INITS):
        raise ValueError(f"init={options['init']!r} is not known (allowed: auto, {', '.join(INITS)})")
    check_samples(proxies, options["batch_size"])
    classes = space.num_classes(**network)
    for option, kind in (("input", "images"), ("data", "data")):
        users = [proxy for proxy in proxies if proxy.input == kind]
        if not users:
            continue
        size, seed = space.input_size(**network), options["proxy_seed"]
        try:
            batch = image_batch(options[option], options["batch_size"], size, seed, classes)
        except ValueError as error:
            raise ValueError(f"{option}={options[option]!r} is not allowed: {error}") from None
        labelled = [proxy.label or proxy.name for proxy in users if proxy.info.needs_labels]
        if labelled and (batch.labels is None or int(batch.labels.max()) >= classes):
            raise ValueError(
                f"{option}={options[option]!r} is not allowed: {', '.join(labelled)} need images with labels below "
                f"num_classes={classes}; choose other images or another num_classes"
            )


def _device(device: str) -> str:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' is not allowed: PyTorch finds no CUDA device here; give cpu or auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _available(device: str) -> int:
    if device == "cpu":
        return usable_cores()
    import torch

    return torch.cuda.device_count()


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} is not allowed: give a whole number of at least {least}")

"""What a call of ``score`` asks for: its options, checked and resolved before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vkdnw_pl.oracles import TABLES, find_oracle, load_oracle
from vkdnw_pl.runs.cores import usable_cores
from vkdnw_pl.runs.settings import Record
from vkdnw_pl.runs.table import Key
from vkdnw_pl.scoring.archs import ChosenArchs, resolve_archs
from vkdnw_pl.scoring.limit import MacsLimit
from vkdnw_pl.scoring.options import Shard, check_workers, parse_seeds
from vkdnw_pl.scoring.settings import ScoreSettings
from vkdnw_pl.spaces import Space, make_space

if TYPE_CHECKING:
    from vkdnw_pl.oracles import Oracle
    from vkdnw_pl.scoring.evaluation import Terms


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """The options, checked and resolved."""

    settings: ScoreSettings
    shard: Shard | None
    keys: list[Key]
    """Rows to make, in the order of the table."""
    columns: tuple[str, ...]
    oracle: Oracle | None
    """None where none is known for the space, and for a shard, which is not evaluated."""
    rankings: Mapping[str, Terms]
    top_k: int
    workers: int
    row_timeout: float | None

    @property
    def record(self) -> Record:
        """What a run folder must have been made with to be continued."""
        return {**self.settings.record(), "shard": None if self.shard is None else str(self.shard)}


def plan_scoring(options: Mapping[str, Any]) -> ScorePlan:
    """Check everything that the user gave, the quick things first.

    Raises:
        ValueError: for the first option that is not allowed.
    """
    seeds = parse_seeds(options["seeds"])
    shard = None if options["shard"] is None else Shard.parse(options["shard"])
    check_workers(options["workers"])
    space, network = make_space(options["space"]), dict(options["network"] or {})
    space.num_classes(**network)  # refuses unknown options and values
    chosen = _choose_archs(options, space, network)
    archs, network = chosen.archs, {**chosen.network, **network}
    space.check_network(archs[0], **network)
    oracle = find_oracle(options["oracle"], options["oracle_path"], space.key) if shard is None else None
    if options["progress"]:
        print("loading PyTorch ...", file=sys.stderr, flush=True)

    import torch

    from vkdnw_pl.data.batches import image_batch
    from vkdnw_pl.metrics.functional import check_options
    from vkdnw_pl.networks.init import INITS
    from vkdnw_pl.proxies import make_proxies
    from vkdnw_pl.proxies.scoring import check_samples
    from vkdnw_pl.scoring.evaluation import choose_rankings

    made = make_proxies(options["proxies"])
    columns = tuple(column for proxy in made for column in proxy.table_columns)
    rankings = choose_rankings(columns, options["rankings"])
    check_options(options["top_k"], "average")
    if options["init"] not in ("auto", *INITS):
        raise ValueError(f"init={options['init']!r} is not known (allowed: auto, {', '.join(INITS)})")
    check_samples(made, options["batch_size"])
    classes = space.num_classes(**network)
    for option, kind in (("input", "images"), ("data", "data")):
        users = [proxy for proxy in made if proxy.input == kind]
        if not users and option == "data":
            continue
        try:
            batch = image_batch(options[option], options["batch_size"], space.input_size(**network), seeds[0], classes)
        except ValueError as error:
            raise ValueError(f"{option}={options[option]!r} is not allowed: {error}") from None
        labelled = [proxy.label or proxy.name for proxy in users if proxy.info.needs_labels]
        if labelled and (batch.labels is None or int(batch.labels.max()) >= classes):
            known = "no labels" if batch.labels is None else f"a label {int(batch.labels.max())}"
            raise ValueError(
                f"{option}={options[option]!r} is not allowed: its images have {known}, and {', '.join(labelled)} need "
                f"labels below num_classes={classes}; choose other images or another num_classes"
            )
    device = options["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' is not allowed: PyTorch finds no CUDA device here; give cpu or auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    here = archs if shard is None else shard.of(archs)
    if not here:
        raise ValueError(f"shard={options['shard']!r} is empty: there are only {len(archs)} architectures")
    available = usable_cores() if device == "cpu" else torch.cuda.device_count()
    if device == "cuda" and options["workers"] != "auto" and options["workers"] > available:
        raise ValueError(
            f"workers={options['workers']} is not allowed: with CUDA there is one per GPU, here {available}"
        )
    return ScorePlan(
        settings=ScoreSettings(
            space=space.key,
            network=network,
            archs=archs,
            proxies=[proxy.record() for proxy in made],
            seeds=seeds,
            batch_size=options["batch_size"],
            input=options["input"],
            data=options["data"] if any(proxy.input == "data" for proxy in made) else None,
            init=options["init"],
            device=device,
        ),
        shard=shard,
        keys=[(arch, seed) for arch in here for seed in seeds],
        columns=columns,
        oracle=oracle,
        rankings=rankings,
        top_k=options["top_k"],
        workers=available if options["workers"] == "auto" else options["workers"],
        row_timeout=options["row_timeout"],
    )


def _choose_archs(options: Mapping[str, Any], space: Space, network: Mapping[str, Any]) -> ChosenArchs:
    """The architectures that the options ask for.

    Raises:
        ValueError: if an option is not allowed, or no architecture remains.
    """
    limit = None
    if options["max_macs"] is not None:
        limit = MacsLimit(options["max_macs"], space, network, quiet=not options["progress"])

    def oracle_archs(which: str) -> list[str]:
        if which == "oracle":
            archs = load_oracle(options["oracle"], options["oracle_path"], space.key).archs
            available = space.available(archs)
            names = set(available)
            if missing := [arch for arch in archs if arch not in names]:
                print(
                    f"left out, because what is installed does not have them: {len(missing)} architectures of the table, "
                    f"the first is {missing[0]}",
                    file=sys.stderr,
                )
            return available
        if TABLES[which] != space.key:
            raise ValueError(
                f"archs={which!r}, the default, is the embedded table of {TABLES[which]} and has no use with "
                f"space={space.name!r}; give --archs {space.examples}"
            )
        return load_oracle(which).archs

    try:
        chosen = resolve_archs(options["archs"], space, oracle_archs, options["archs_seed"], limit)
    finally:
        if limit is not None:
            limit.keep()
    if limit is not None and limit.uncounted:
        arch, why = next(iter(limit.uncounted.items()))
        print(
            f"left out, because their MACs cannot be counted: {len(limit.uncounted)} architectures, the first is {arch} "
            f"({why})",
            file=sys.stderr,
        )
    return chosen

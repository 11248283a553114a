"""Options that several commands share.

Each group is a frozen dataclass with a text under each field, which is the option's help. A command's own dataclass
inherits from the groups it needs: all options stand flat on its command line and in its YAML. Torch-free, but for the
methods that say so.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vkdnw_pl.data.own_images import data_module_of, image_folder_args, is_own_images
from vkdnw_pl.errors import check_choice, check_number, check_whole, shown
from vkdnw_pl.oracles import NAMES_BY_SPACE, Oracle, find_oracle
from vkdnw_pl.runs.environment import check_memory, usable_cores
from vkdnw_pl.spaces import SPACES, BuildOptions, Space, make_space, space_key

if TYPE_CHECKING:
    from vkdnw_pl.proxies.base import Proxy


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Base of all groups: lets each that a command's options inherit from check its own."""

    def __post_init__(self) -> None:
        """Refuse values that are not allowed, with a ``ValueError`` that names the option."""

    def refuse(self, reason: str, *names: str) -> None:
        """Refuse those of the named options that are not as by default: they have no effect, for this reason."""
        for option in dataclasses.fields(self):
            if option.name not in names:
                continue
            default = option.default if option.default_factory is dataclasses.MISSING else option.default_factory()
            if (value := getattr(self, option.name)) != default:
                raise ValueError(f"{option.name}={value!r} has no use {reason}; leave it out")


def _networks() -> str:
    """The options of each space's networks, for the user."""
    common = [item.name for item in dataclasses.fields(BuildOptions)]
    texts = []
    for name, space in SPACES.builtin.items():
        default = space.build_options()
        further = [item.name for item in dataclasses.fields(default) if item.name not in common]
        also = f": also {', '.join(further)}" if further else ""
        texts.append(f"{name} ({default.num_classes} classes, {default.image_size} pixels){also}")
    return f"Every space has {', '.join(common)}. {'; '.join(texts)}. Those of timm_zoo also have what timm.create_model takes."


NETWORKS = _networks()
"""The options of each space's networks, for the user."""
_SPACE_HELP = (
    f"Search space: {', '.join(SPACES.builtin)} (docs/spaces.md says what each is), or your own, by the dotted name of its "
    "class."
)
_NETWORK_HELP = f"Options of the space's networks, such as '{{image_size: 16, num_classes: 120}}'. {NETWORKS}"


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(OptionGroup):
    """Which networks."""

    space: str = field(default="nb201", metadata={"help": _SPACE_HELP})
    """Search space."""
    network: dict[str, Any] | None = field(default=None, metadata={"help": _NETWORK_HELP})
    """Options of the space's networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.space, str):  # an object or a class, handed over from Python
            object.__setattr__(self, "space", space_key(self.space))
        for name in self.network_options:
            if not isinstance(name, str):
                raise ValueError(f"network: {shown(name)} is not allowed: names of options are texts")
        self.search_space.num_classes(**self.network_options)  # refuses unknown options and values

    @property
    def search_space(self) -> Space:
        """The space itself."""
        return make_space(self.space)

    @property
    def network_options(self) -> dict[str, Any]:
        """Keyword arguments of the space's ``build`` and ``cost``."""
        return dict(self.network or {})


@dataclass(frozen=True, kw_only=True)
class ProxyOptions(OptionGroup):
    """How proxies are computed."""

    proxies: list[str | dict[str, Any]] = field(default_factory=list)
    """Proxies, by name or with parameters; for example '[macs, aleph, {name: vkdnw, alpha: 0.1}]'. The name of a ranking,
    such as vkdnw_agg, stands for the proxies that it needs."""
    batch_size: int = 16
    """Images per batch that the proxies see."""
    input: str | dict[str, Any] = "random"
    """Images for proxies that take any: random (normal values, with random labels), digits, a .npy file of images, a .npz
    file of images and labels, your own images (a folder of class folders, or a CSV file, as for fit), or the training
    images of a LightningDataModule, '{class_path: my.DataModule, init_args: {...}}'."""
    data: str | dict[str, Any] = "digits"
    """Images, the same choices, for proxies that are defined on real ones (jacov, grasp, snip, zico, ...). Your own images,
    here or as input, also say how many classes the networks have, and their size (64 pixels, or image_size of network)."""
    init: str = "auto"
    """Initialisation of the weights: auto is each proxy's own (most have kaiming_normal; docs/proxies.md says which), or
    for all of them kaiming_normal, gaussian, zennas, pytorch (the constructors'), or keep."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("batch_size", self.batch_size, 1)
        for option in ("input", "data"):
            source = getattr(self, option)
            try:
                if isinstance(source, str) and is_own_images(source):
                    object.__setattr__(self, option, data_module_of(source))
            except ValueError as error:
                raise ValueError(f"{option}={source!r} is not allowed: {error}") from None
        if any(not isinstance(spec, str | Mapping) for spec in self.proxies):  # objects or classes, from Python
            from vkdnw_pl.proxies import make_proxies
            from vkdnw_pl.ranking.needed import with_proxies_of

            specs = with_proxies_of([], self.proxies)
            object.__setattr__(self, "proxies", [proxy.record() for proxy in make_proxies(specs)])

    def make_proxies(self) -> list[Proxy]:
        """The proxies, a ranking among them as those that it needs, checked against the other options. Imports torch."""
        from vkdnw_pl.proxies import make_proxies
        from vkdnw_pl.ranking.needed import with_proxies_of

        proxies = make_proxies(with_proxies_of([], self.proxies))
        self.check_proxies(proxies)
        return proxies

    def check_proxies(self, proxies: Sequence[Proxy]) -> None:
        """Check the initialisation for these proxies. Imports torch."""
        from vkdnw_pl.networks.init import INITS

        check_choice("init", self.init, ("auto", *INITS))

    def check_images(self, proxies: Sequence[Proxy], size: tuple[int, int, int], num_classes: int, seed: int) -> None:
        """Make the first batch of images that proxies look at, of ``size`` (channels, height, width). Imports torch.

        ValueError if there are no such images, or their labels are not below ``num_classes`` where a proxy needs them.
        """
        from vkdnw_pl.data.batches import image_batch

        check_batch("batch_size", self.batch_size, size)
        for option, kind in (("input", "images"), ("data", "data")):
            users = [proxy for proxy in proxies if proxy.input == kind]
            source = getattr(self, option)
            own = image_folder_args(source)
            if not users:
                if own is None:  # else it says classes and size of the networks
                    self.refuse("here: no proxy looks at such images", option)
                continue
            given = f"{option}={source if own is None else own.get('root')!r}"
            hungriest = max(users, key=lambda proxy: proxy.sample_count(self.batch_size))
            most = hungriest.sample_count(self.batch_size)
            try:
                batch = image_batch(source, self.batch_size, size, seed, num_classes)
                if most > self.batch_size:  # there must be further batches
                    image_batch(source, self.batch_size, size, seed, num_classes, -(-most // self.batch_size) - 1)
            except ValueError as error:
                name = hungriest.label or hungriest.name
                fewer = f" ({name} looks at {most} images: give it fewer with proxies '[{{name: {hungriest.name}, samples: ...}}]')"
                raise ValueError(f"{given} is not allowed: {error}{fewer if most > self.batch_size else ''}") from None
            labelled = [proxy.label or proxy.name for proxy in users if proxy.info.needs_labels]
            if labelled and (batch.labels is None or int(batch.labels.max()) >= num_classes):
                labels = "no labels" if batch.labels is None else f"a label {int(batch.labels.max())}"
                raise ValueError(
                    f"{given} is not allowed: its images have {labels}, and {', '.join(labelled)} need labels "
                    f"below num_classes={num_classes}; choose other images or another num_classes"
                )


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(OptionGroup):
    """Where it is computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA if there is some."""
    workers: int | Literal["auto"] = "auto"
    """Processes that compute proxies: auto is one for each CPU core that may be used (or for each GPU); with more than
    there are GPUs, several share one."""
    row_timeout: float | None = None
    """Seconds that one network may take; one that takes longer becomes a failed row. Default: no limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers != "auto":
            check_whole("workers", self.workers, 1, "or auto", most=_MOST_WORKERS)
        if self.row_timeout is not None:
            check_number("row_timeout", self.row_timeout, 0, open_low=True)

    def resolve_device(self) -> str:
        """``cpu`` or ``cuda``; ValueError where CUDA is asked for and not there. Imports torch."""
        if self.device == "cpu":
            return "cpu"
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if self.device == "cuda":
            raise ValueError("device='cuda' is not allowed: PyTorch finds no CUDA device here; give cpu or auto")
        return "cpu"

    def resolve_workers(self, device: str) -> int:
        """Number of processes on this device. Imports torch for ``cuda``."""
        if self.workers != "auto":
            return self.workers
        if device == "cpu":
            return usable_cores()
        import torch

        return torch.cuda.device_count()


_ORACLE_HELP = (
    f"Known accuracies of the space, or other measured properties ({NAMES_BY_SPACE}; for any space a run folder of label, or "
    "a CSV file with columns arch,<data set>). auto: a public table if it was downloaded, else the one that comes with the "
    "package, else none: then there are no metrics."
)


@dataclass(frozen=True, kw_only=True)
class OracleOptions(OptionGroup):
    """What it is compared with."""

    oracle: str | None = field(default="auto", metadata={"help": _ORACLE_HELP})
    """Known accuracies of the space."""
    oracle_path: str | None = None
    """Folder of the public tables or of NATS-Bench, if it is not the cache folder."""
    oracle_measures: dict[str, str] | None = None
    """What the columns of a CSV file hold, where its first line cannot say it (as in 'latency[ms lower]'): column ->
    UNIT DIRECTION SPLIT, such as '{latency: ms lower, loss: nat lower val}'. Default: accuracies in percent."""

    def find_oracle(self, space: str) -> Oracle | None:
        """The known accuracies of a space; None where ``auto`` finds none, or none are asked for."""
        if self.oracle is None:
            self.refuse("without oracle, such as --oracle nb201", "oracle_path", "oracle_measures")
            return None
        return find_oracle(self.oracle, self.oracle_path, space, self.oracle_measures)


@dataclass(frozen=True, kw_only=True)
class WandbOptions(OptionGroup):
    """Weights & Biases."""

    wandb: bool | str = False
    """Log to Weights & Biases too: true (the project vkdnw_pl, or WANDB_PROJECT), PROJECT, or ENTITY/PROJECT. Without a key
    or network it writes offline into OUT/wandb."""
    wandb_group: str | None = None
    """Group of the run there. Default: the runs that belong together, such as the shards of a scoring and their merge."""
    wandb_tags: list[str] = field(default_factory=list)
    """Tags of the run there, such as '[first, second]'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wandb is False:
            for name, value in (("wandb_group", self.wandb_group), ("wandb_tags", self.wandb_tags)):
                if value:
                    raise ValueError(f"{name}={value!r} has no use without wandb; give --wandb, or leave it out")
            return
        wandb_environment()
        if self.wandb_group == "":
            raise ValueError("wandb_group='' is not allowed: give a name")
        for tag in self.wandb_tags:
            if not 0 < len(tag) <= _MAX_TAG:
                raise ValueError(f"wandb_tags: {tag!r} is not allowed: a tag has 1 to {_MAX_TAG} characters")
        if self.wandb is True:
            return
        if Path(self.wandb).is_file() or Path(self.wandb, "meta.json").is_file():
            raise ValueError(
                f"wandb={self.wandb!r} is not allowed: this is a file or run folder, not a project of W&B; write "
                "--wandb=true, or --wandb behind all others"
            )
        entity, slash, project = self.wandb.rpartition("/")
        refused = [letter for letter in _NOT_IN_PROJECT if letter in entity + project]
        if not project or bool(slash) != bool(entity) or refused or len(project) > _MAX_PROJECT:
            raise ValueError(
                f"wandb={self.wandb!r} is not allowed: give true, PROJECT or ENTITY/PROJECT (at most {_MAX_PROJECT} "
                f"characters, none of {' '.join(_NOT_IN_PROJECT)})"
            )

    @property
    def wandb_project(self) -> str | None:
        """Project by name; None leaves it to the environment, then to the default."""
        return self.wandb.rpartition("/")[2] if isinstance(self.wandb, str) else None

    @property
    def wandb_entity(self) -> str | None:
        """Entity by name; None leaves it to W&B."""
        return (self.wandb.rpartition("/")[0] or None) if isinstance(self.wandb, str) else None


def wandb_environment() -> tuple[str | None, dict[str, float]]:
    """The mode that ``WANDB_MODE`` asks for, None where it does not, and W&B's timeouts in seconds."""
    mode = os.environ.get("WANDB_MODE") or None
    if mode is not None:
        check_choice("WANDB_MODE", mode, ("online", "offline", "disabled", "shared", "dryrun", "run"))
    timeouts: dict[str, Any] = {"init_timeout": 15.0, "finish_timeout": 60.0}
    for name, default in timeouts.items():
        variable = f"WANDB_{name.upper()}"
        timeouts[name] = os.environ.get(variable) or default
        with suppress(ValueError):
            timeouts[name] = float(timeouts[name])
        check_number(variable, timeouts[name], 0, 86_400, open_low=True)
    return mode, timeouts


_AMOUNT = re.compile(r"\s*(\d[\d_]*(?:\.\d+)?(?:[eE]\+?\d+)?)\s*([kKMG]?)\s*")
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


def parse_amount(name: str, amount: int | float | str | None) -> int | None:
    """Read a number of MACs or parameters: ``450000000``, ``450e6``, ``"450M"``, ``"0.45G"`` or ``"450_000_000"``."""
    if amount is None:
        return None
    match = _AMOUNT.fullmatch(str(amount)) if not isinstance(amount, bool) else None
    # A decimal fraction such as 0.45 is not exact in binary; half a MAC is far less than what anybody means.
    value = float(match[1].replace("_", "")) * _UNITS[match[2]] if match else 0.0
    if match is None or not 1 <= value < 1e18 or abs(value - round(value)) > 1e-6:
        raise ValueError(
            f"{name}={amount!r} is not allowed: give a whole number of at least 1, such as 450e6, 450M or 0.45G"
        )
    return round(value)


def check_batch(name: str, batch_size: int, size: tuple[int, int, int]) -> None:
    """Refuse a number of images of ``size`` (channels, height, width) that this machine cannot hold."""
    check_memory(name, batch_size, 4 * batch_size * math.prod(size), f"a batch of images of size {size}")


def check_rows(name: str, value: object, rows: int) -> None:
    """Refuse an option that asks for more rows than a table can have in the memory of this machine."""
    check_memory(name, value, _BYTES_PER_ROW * rows, f"a table of {rows:,} rows")


MAX_SEED = 2**63 - 1
"""The largest seed: PyTorch's generators and tables of 64-bit numbers take it."""
_BYTES_PER_ROW = 500
"""A row with few values; with more it takes more."""
_MOST_WORKERS = 1024
"""As many files as a process may have open, and each worker is one."""
_MAX_PROJECT, _MAX_TAG = 128, 64
_NOT_IN_PROJECT = "/\\#?%:"


@dataclass(frozen=True, kw_only=True)
class OutOptions(OptionGroup):
    """Where the results go."""

    out: str | None = None
    """Run folder. Default: a name made from the settings, below runs/."""
    overwrite: bool = False
    """Delete the results that are in the run folder; only those of the same command."""
    progress: bool = True
    """Show how far it is; false for nothing but the results."""


def as_config(options: Any) -> dict[str, Any]:
    """Options by name, as ``config.yaml`` has them."""
    return {item.name: getattr(options, item.name) for item in dataclasses.fields(options)}

"""What a table of accuracies is to have: the options of ``label``, checked and resolved before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vkdnw_pl.errors import check_number, check_whole
from vkdnw_pl.labels.archs import ArchOptions, choose_archs
from vkdnw_pl.labels.settings import LabelSettings
from vkdnw_pl.options import ComputeOptions, OutOptions, WandbOptions, check_rows, parse_amount
from vkdnw_pl.runs.folder import Record
from vkdnw_pl.runs.table import Key
from vkdnw_pl.scoring.plan import Shard, parse_seeds
from vkdnw_pl.spaces import Space, make_space
from vkdnw_pl.spaces.resolve import AUTO, resolve_arch

NO_ARCH = "none of its own"
"""Stands where a recipe names no architecture."""
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class LabelOptions(ComputeOptions, OutOptions, WandbOptions):
    """Options of ``label``."""

    archs: str | list[str] = ""
    """Networks, with commas between them: found.json (the best network of a search; found.json#2 the second), random:5 (5
    networks drawn from the space under the budget of that search, with about as many MACs), timm:mobilenetv2_050,
    sample:100, unique, a file of architectures, or architectures."""
    seeds: int | str | list[int] = "1..3"
    """Seeds of initialisation, order and augmentation: 1, '[1,2,3]' or 1..5. Every network is trained with each."""
    archs_seed: int = 0
    """Decides which networks random:N and sample:N draw."""
    macs_tolerance: float = 0.1
    """random:N: MACs may differ from those of the found networks by this share, within the budget of the search."""
    max_macs: int | float | str | None = None
    """random:N: the most multiply-adds, such as 450e6 or 450M. Default: of the budget and the found networks."""
    min_macs: int | float | str | None = None
    """random:N: the fewest."""
    dataset: str | None = None
    """What accuracies.csv calls the images. Default: the name of their folder, or of the data module."""
    workers: int | Literal["auto"] = "auto"
    """Networks that are trained at the same time: auto is one for each CPU core that may be used (or for each GPU)."""
    row_timeout: float | None = None
    """Seconds that one training may take; one that takes longer becomes a failed row. Default: no limit."""
    shard: str | None = None
    """Train only part i of n of the networks, for array jobs: i/n with i from 0. Give each its own out; then run merge."""
    retry_failed: bool = False
    """Train again what failed in an earlier run."""
    model: dict[str, Any] = field(default_factory=dict)
    """The recipe, as for fit: --config configs/digits_quick.yaml --model.optimizer.lr 0.1. Its arch and seed are those of
    each row."""
    data: dict[str, Any] = field(default_factory=dict)
    """Images, as for fit: a folder of images, or a data module such as Digits with --data.batch_size 50."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """How long, as for fit: --trainer.max_epochs 30."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(parse_seeds(self.seeds)) > _LARGEST_SEED:
            raise ValueError(f"seeds={self.seeds!r} is not allowed: a training takes seeds up to {_LARGEST_SEED}")
        if self.shard is not None:
            Shard.parse(self.shard)
        check_whole("archs_seed", self.archs_seed, 0)
        check_number("macs_tolerance", self.macs_tolerance, 0, 1, open_low=True)
        for name in ("max_macs", "min_macs"):
            parse_amount(name, getattr(self, name))
        if "random:" not in str(self.archs):
            self.refuse("without archs=random:N", "macs_tolerance", "max_macs", "min_macs")
            if "sample:" not in str(self.archs):
                self.refuse("without archs=random:N or sample:N, which it is the seed of", "archs_seed")
        if self.overwrite:
            self.refuse("with overwrite, which deletes what failed too", "retry_failed")
        if self.dataset is not None and (
            not self.dataset or set(self.dataset) & set(',;\t"\n') or self.dataset == "arch"
        ):
            raise ValueError(f"dataset={self.dataset!r} is not allowed: it names a column of a CSV file")


@dataclass(frozen=True, kw_only=True)
class LabelPlan:
    """What a table is to have."""

    settings: LabelSettings
    shard: Shard | None
    keys: list[Key]
    """Rows to make, in the order of the table."""
    workers: int
    notes: list[str]
    """What the user should know of these options."""

    @property
    def groups(self) -> dict[str, str]:
        """Architecture -> group, of this run or shard, in order."""
        groups = self.settings.groups
        archs = list(groups) if self.shard is None else self.shard.of(list(groups))
        return {arch: groups[arch] for arch in archs}

    @property
    def record(self) -> Record:
        """What a run folder must have been made with to be continued."""
        return {**self.settings.record(), "shard": None if self.shard is None else str(self.shard)}

    @property
    def default_out(self) -> str:
        """A run folder that the same settings lead to again."""
        name = f"runs/label-{self.settings.digest()}"
        return name if self.shard is None else f"{name}-shard-{self.shard.index}-of-{self.shard.count}"


def plan_labels(options: LabelOptions) -> LabelPlan:
    """Resolve the options, the quick things first."""
    shard = None if options.shard is None else Shard.parse(options.shard)
    recipe = {name: getattr(options, name) for name in ("model", "data", "trainer")}
    seeds = parse_seeds(options.seeds)

    from vkdnw_pl.data.image_folder import ImageFolder
    from vkdnw_pl.labels.recipe import check_recipe, has_test_images, make_data

    check_recipe(recipe)
    chosen = choose_archs(
        ArchOptions(
            archs=options.archs,
            archs_seed=options.archs_seed,
            macs_tolerance=options.macs_tolerance,
            max_macs=parse_amount("max_macs", options.max_macs),
            min_macs=parse_amount("min_macs", options.min_macs),
            space=_space_of_recipe(options.model),
            network=options.model.get("network") or {},
        )
    )
    own_archs = list(chosen.groups) if shard is None else shard.of(list(chosen.groups))
    if not own_archs:
        raise ValueError(f"shard={options.shard!r} is empty: there are only {len(chosen.groups)} architectures")
    check_rows("seeds", options.seeds, len(own_archs) * len(seeds))
    data: Any = make_data(recipe, seeds[0])
    if isinstance(
        data, ImageFolder
    ):  # what every training would fail with: files that are no images, too large a batch
        data.prepare_data()
        data.train_dataloader()
    device = _device(options)
    settings = LabelSettings(
        space=chosen.space,
        network=chosen.network,
        groups=chosen.groups,
        seeds=seeds,
        recipe=recipe,
        num_classes=data.num_classes,
        image_size=tuple(data.input_size),
        # Rows of one table must not be of other images, wherever the folder lies now.
        images=str(getattr(data, "digest", "") or (options.data.get("init_args") or {}).get("root", "")),
        dataset=options.dataset or _dataset_name(options.data),
        accuracy="test" if has_test_images(data) else "val",
        device=device,
    )
    notes = list(chosen.notes)
    if getattr(data, "validates_on_test", False):
        notes.append("the validation images are the test images; none of them decides anything, the last epoch counts")
    elif settings.accuracy == "val":
        notes.append("there are no test images: accuracies are of the validation images; the last epoch counts")
    first: dict[str, str] = {}
    for arch in chosen.groups:
        first.setdefault(settings.network_of(arch)[0].key, arch)
    for arch in first.values():
        space, name, network = settings.network_of(arch)
        space.check_network(name, **network, **settings.task)
    return LabelPlan(
        settings=settings,
        shard=shard,
        keys=[(arch, seed) for arch in own_archs for seed in seeds],
        workers=options.resolve_workers(device),
        notes=notes,
    )


def _space_of_recipe(model: dict[str, Any]) -> Space | None:
    """The space that a recipe names, by itself or by its architecture; None where it names none."""
    space, arch = model.get("space") or AUTO, model.get("arch") or NO_ARCH
    if space != AUTO:
        return make_space(space)
    return None if arch == NO_ARCH else make_space(resolve_arch(arch).space)


def _device(options: LabelOptions) -> str:
    accelerator = options.trainer.get("accelerator", "auto")
    if options.device == "auto" and accelerator in ("cpu", "gpu", "cuda"):
        return "cpu" if accelerator == "cpu" else options.resolve_device()
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"trainer.accelerator={accelerator!r} is not allowed: give cpu, gpu or auto")
    return options.resolve_device()


def _dataset_name(data: dict[str, Any]) -> str:
    root = (data.get("init_args") or {}).get("root")
    is_folder = data["class_path"].endswith(("ImageFolder", "ImageNet"))
    name = (
        Path(root).expanduser().resolve().name if root and is_folder else data["class_path"].rpartition(".")[2].lower()
    )
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name) or "images"


def seeds_text(seeds: Sequence[int]) -> str:
    """``1 to 3`` or ``1, 5, 7``."""
    whole = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))) and len(seeds) > 2
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))

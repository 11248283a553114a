"""The recipe of an accuracy table: options of ``fit``, with which every network is trained for as many epochs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning import Callback, LightningDataModule

from vkdnw_pl.errors import is_whole
from vkdnw_pl.training.cli import TrainingParser
from vkdnw_pl.training.folder import ONLOOKERS
from vkdnw_pl.training.option_errors import class_arguments

_DECIDED = (
    *("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"),
    *("accelerator", "devices", "num_nodes", "strategy", "default_root_dir", "plugins"),
)
"""Options of the trainer that change no accuracy, or are decided here."""
_OTHER_ENDS = {"max_steps": (-1, None), "max_time": (None,), "fast_dev_run": (False, 0, None), "profiler": (None,)}
"""Options that would end a training elsewhere, or look at it, and their values that do not."""


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Refuse options of ``fit`` that have no meaning where many networks are trained alike.

    Raises:
        ValueError: naming the option.
    """
    trainer, model = recipe["trainer"], recipe["model"]
    if not is_whole(trainer.get("max_epochs"), 1):
        raise ValueError(
            f"trainer.max_epochs={trainer.get('max_epochs')!r} is not allowed: every network is trained for as many epochs; "
            "give a whole number of at least 1"
        )
    for name, harmless in _OTHER_ENDS.items():
        if trainer.get(name) not in harmless:
            raise ValueError(
                f"trainer.{name}={trainer[name]!r} has no use here: trainer.max_epochs ends every training"
            )
    one_process: dict[str, list[Any]] = {"devices": ["auto", 1, "1", [0]], "num_nodes": [1], "strategy": ["auto"]}
    for name, values in one_process.items():
        if trainer.get(name, values[0]) not in values:
            raise ValueError(
                f"trainer.{name}={trainer[name]!r} is not allowed: one process trains a network, and --workers says how "
                "many there are"
            )
    if model.get("weights") is not None:
        raise ValueError(f"model.weights={model['weights']!r} is not allowed: they are those of one network")
    for callback in _callbacks(recipe):
        if callback.get("class_path", "").endswith("EarlyStopping"):
            raise ValueError(
                "trainer.callbacks: EarlyStopping is not allowed: every network is trained for as many epochs"
            )


def make_data(recipe: Mapping[str, Any], seed: int, device: str = "cpu") -> LightningDataModule:
    """The data module of the recipe, whose order and augmentation are those of a seed.

    On CPU the process that trains, which has a core of its own, loads the images too, if nothing else is said.
    """
    data = recipe["data"]
    init_args = {**(data.get("init_args") or {})}
    arguments = _arguments(data["class_path"])
    if "seed" in arguments:
        init_args["seed"] = seed
    if device == "cpu" and "num_workers" in arguments and init_args.get("num_workers", "auto") == "auto":
        init_args["num_workers"] = 0
    made: Namespace = _instantiated(data={**data, "init_args": init_args})
    return made.data


def has_test_images(data: LightningDataModule) -> bool:
    """Whether a data module gives test images."""
    own = type(data).test_dataloader is not LightningDataModule.test_dataloader
    return own or bool(getattr(data, "validates_on_test", False))


def trainer_options(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the trainer that change what is trained; ``callbacks`` are new ones, those that only look left out."""
    options = {name: value for name, value in recipe["trainer"].items() if name not in _DECIDED}
    callbacks = [
        callback for callback in _callbacks(recipe) if callback["class_path"].rpartition(".")[2] not in ONLOOKERS
    ]
    options["callbacks"] = list(_instantiated(callbacks=callbacks).callbacks) if callbacks else []
    return options


@cache
def _arguments(class_path: str) -> frozenset[str]:
    return frozenset(class_arguments(class_path))


def _callbacks(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    callbacks = recipe["trainer"].get("callbacks") or []
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _instantiated(**options: Any) -> Namespace:
    """Classes of options that are named by their path."""
    parser = _parser(tuple(options))
    return parser.instantiate(parser.parse_object(options))


@cache
def _parser(names: tuple[str, ...]) -> TrainingParser:
    parser = TrainingParser(exit_on_error=False)
    kinds: dict[str, Any] = {"data": LightningDataModule, "callbacks": list[Callback]}
    for name in names:
        parser.add_argument(f"--{name}", type=kinds[name])
    return parser

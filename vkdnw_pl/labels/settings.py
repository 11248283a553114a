"""What a row of an accuracy table depends on, apart from its architecture and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from vkdnw_pl.labels.archs import TIMM_PREFIX
from vkdnw_pl.runs.folder import Record, digest, text_digest
from vkdnw_pl.spaces import SPACES, Space, TimmZoo
from vkdnw_pl.training.folder import training_settings

COLUMNS = ("macs", "params", "val", "test", "epochs")
"""Values of a row: multiply-adds of one image, parameters, accuracies in percent, epochs of the training."""
_OF_ROWS = ("model.arch", "model.space", "model.seed", "model.num_classes", "model.input_size", "seed_everything")


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """Everything that decides an accuracy table, resolved; plain values, which other processes can be sent."""

    space: str
    """Key of the space."""
    network: Mapping[str, Any]
    """Options of the space's networks, without those that follow from the images."""
    groups: Mapping[str, str]
    """Architecture -> its group, in order."""
    seeds: Sequence[int]
    recipe: Mapping[str, Any]
    """Options of ``fit``: ``model``, ``data``, ``trainer``."""
    num_classes: int
    image_size: tuple[int, int, int]
    """(channels, height, width) of the images as they come."""
    images: str
    """Which images there are: the digest of a folder of the user's own, the place of other files, or empty."""
    dataset: str
    """What the table calls the images."""
    accuracy: str
    """Column of the rows with the accuracy of the table: ``test`` or ``val``."""
    device: str
    """``cpu`` or ``cuda``: the two do not round alike."""

    @property
    def archs(self) -> list[str]:
        """Architectures in order."""
        return list(self.groups)

    @property
    def task(self) -> dict[str, int]:
        """Options of a space's network that follow from the images."""
        channels, size, _ = self.image_size
        size = self.recipe["model"].get("student_size") or size
        return {"num_classes": self.num_classes, "image_size": size, "in_channels": channels}

    def network_of(self, arch: str) -> tuple[Space, str, dict[str, Any]]:
        """The space of a row's architecture, what it is called there, and the options of its network but for `task`."""
        if arch.startswith(TIMM_PREFIX) and not isinstance(SPACES[self.space], TimmZoo):
            return SPACES[TimmZoo.name], arch.removeprefix(TIMM_PREFIX), {}
        return SPACES[self.space], arch, dict(self.network)

    def record(self) -> Record:
        """JSON-able form, as it reads back from a file; the architectures stand as their digest."""
        recipe = {key: value for key, value in training_settings(dict(self.recipe)).items() if key not in _OF_ROWS}
        recipe = {key: value for key, value in recipe.items() if not key.startswith("model.network")}
        recipe.pop("data.init_args.seed", None)
        record = {
            "space": self.space,
            "network": {**self.network, **self.task},
            "archs": {"count": len(self.groups), "sha256": text_digest("\n".join(self.groups))},
            "groups": [[name, len(list(members))] for name, members in groupby(self.groups.values())],
            "seeds": list(self.seeds),
            **recipe,
            "trainer.max_epochs": self.recipe["trainer"]["max_epochs"],
            "data.images": self.images,
            "dataset": self.dataset,
            "accuracy": self.accuracy,
            "device": self.device,
        }
        return json.loads(json.dumps(record))

    def digest(self) -> str:
        """Eight hexadecimal digits that name these settings."""
        return digest(self.record())


def expand_groups(record: Mapping[str, Any]) -> list[str]:
    """The group of each architecture of a run in order, from its record."""
    return [str(name) for name, count in record["groups"] for _ in range(count)]

"""Every model of timm, by its name: a collection to choose from, without a notion of neighbours."""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.spaces.base import Cost, Space

if TYPE_CHECKING:
    from torch import nn

_DEFAULTS = {"num_classes": 1000, "image_size": 224, "in_channels": 3}


class TimmZoo(Space):
    """timm's models.

    An architecture is a model name such as ``mobilenetv2_100`` or, with a tag that names weights,
    ``mobilenetv2_100.ra_in1k``. Network options: ``num_classes`` (1000), ``image_size`` (224) and ``in_channels`` (3) as
    in every space; all others go to ``timm.create_model``, such as ``{pretrained: true}`` or ``{drop_path_rate: 0.1}``.
    """

    name: ClassVar[str] = "timm_zoo"

    def validate(self, arch: str) -> str:
        """Return the name as it is.

        Raises:
            ValueError: naming the nearest model, for a name that timm does not know.
        """
        import timm

        if not timm.is_model(arch):
            near = difflib.get_close_matches(arch.partition(".")[0], timm.list_models(), 3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"timm has no model {arch!r}{hint} (timm.list_models() lists them)")
        return arch

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        import timm

        yield from timm.list_models()

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        return rng.choice(list(self.enumerate(unique)))

    def mutate(self, arch: str, rng: random.Random) -> str:
        raise ValueError("timm_zoo is a list of models without neighbours; search it by random sampling")

    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs of convolutions and matrix products, biases not counted, and parameters, from a pass on the meta device."""
        import torch

        from vkdnw_pl.networks.cost import flop_counter_macs

        with torch.device("meta"):
            built = self.build(arch, **{**network, "pretrained": False}).eval()
            macs = flop_counter_macs(built, torch.empty(1, *self.input_size(**network)))
        return Cost(macs=macs, num_params=sum(p.numel() for p in built.parameters()))

    def build(self, arch: str, **network: Any) -> nn.Module:
        import timm

        name = self.validate(arch)
        own = {**_DEFAULTS, **network}
        options = {key: value for key, value in network.items() if key not in _DEFAULTS}
        options |= {"num_classes": own["num_classes"], "in_chans": own["in_channels"]}
        config = timm.models.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            options["img_size"] = own["image_size"]
        try:
            return timm.create_model(name, **options)
        except TypeError as error:
            raise ValueError(f"network: timm's {name} refuses the options {options}: {error}") from None

    def input_size(self, **network: Any) -> tuple[int, int, int]:
        own = {**_DEFAULTS, **network}
        return own["in_channels"], own["image_size"], own["image_size"]

    def num_classes(self, **network: Any) -> int:
        return {**_DEFAULTS, **network}["num_classes"]

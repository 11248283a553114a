"""Every model of timm, by its name: a collection to choose from, without a notion of neighbours."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.errors import nearest, why
from vkdnw_pl.spaces.base import BuildOptions, Cost, Space, check_weights

if TYPE_CHECKING:
    from torch import nn

_OPTIONS = ("num_classes", "image_size", "in_channels")


class TimmZoo(Space):
    """timm's models.

    An architecture is a model name such as ``mobilenetv2_100`` or, with a tag that names weights,
    ``mobilenetv2_100.ra_in1k``. Network options: ``num_classes`` (1000), ``image_size`` (224) and ``in_channels`` (3) as
    in every space; all others go to ``timm.create_model``, such as ``{pretrained: true}`` or ``{drop_path_rate: 0.1}``.
    Models that are made for one size of images, such as ViTs, are built for ``image_size``.
    """

    name: ClassVar[str] = "timm_zoo"
    examples = (
        "with model names, as in 'mobilenetv2_100,resnet18' or 'mobilenet*', oracle (those with known accuracies; limit "
        f"them with --max_macs 1.0e9), {Space.examples}"
    )

    def validate(self, arch: str) -> str:
        """Return the name as it is."""
        import timm

        name, _, tag = arch.partition(".")
        if not name or not timm.is_model(name):
            hint = nearest(name, timm.list_models(), 3)
            raise ValueError(f"timm has no model {arch!r}{hint} (timm.list_models() lists them)")
        if tag:
            tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
            if tag not in tags:
                allowed = f"its tags: {', '.join(tags)}" if tags else "it has no pretrained weights"
                raise ValueError(f"timm's {name} has no tag {tag!r} ({allowed})")
        return arch

    def architecture(self, arch: str) -> str:
        """The name without the tag, which tells weights of one network apart."""
        return self.validate(arch).partition(".")[0]

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """Names of all models, without tags.

        Two names may mean one network (``levit_128`` and ``levit_conv_128``); ``unique`` does not know.
        """
        import timm

        yield from timm.list_models()

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        return rng.choice(list(self.enumerate(unique)))

    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs of convolutions and matrix products, biases not counted, and parameters, from a pass on the meta device."""
        import torch

        from vkdnw_pl.networks.cost import flop_counter_macs

        size = self.input_size(**network)
        try:
            with torch.device("meta"):
                built = self.build(arch, **{**network, "pretrained": False}).eval().requires_grad_(False)
                macs = flop_counter_macs(built, torch.empty(1, *size))
        except ValueError:
            raise
        except Exception as error:  # each model has its own words
            raise ValueError(f"timm's {arch} cannot take images of size {size}: {why(error)}") from error
        return Cost(macs=macs, num_params=sum(p.numel() for p in built.parameters()))

    def build(self, arch: str, **network: Any) -> nn.Module:
        """Make the network; ValueError where the model refuses an option."""
        import timm

        name = self.validate(arch)
        opt = self.read_options(network)
        options = {key: value for key, value in network.items() if key not in _OPTIONS}
        options |= {"num_classes": opt.num_classes, "in_chans": opt.in_channels}
        config = timm.models.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            options["img_size"] = opt.image_size
        try:
            return timm.create_model(name, **options)
        except TypeError as error:
            hint = next(filter(None, (nearest(key, _OPTIONS) for key in network if key not in _OPTIONS)), "")
            raise ValueError(f"network: timm's {name} refuses the options {options}{hint}: {error}") from error

    def check_network(self, arch: str, **network: Any) -> None:
        """Refuse options that the model's constructor refuses; of what else goes wrong with one model, its row tells."""
        import torch

        with suppress(RuntimeError, AssertionError, IndexError, KeyError), torch.device("meta"):
            built = self.build(arch, **{**network, "pretrained": False})
            check_weights(arch, sum(parameter.numel() for parameter in built.parameters()))

    def read_options(self, network: Mapping[str, Any]) -> BuildOptions:
        """The options that every space has; timm's constructors judge all others."""
        return BuildOptions(**{name: network[name] for name in _OPTIONS if name in network})

    def available(self, archs: Sequence[str]) -> list[str]:
        """Those that the installed timm has: a table of its results may be newer."""
        names = set(self.enumerate())
        return [arch for arch in archs if arch in names]

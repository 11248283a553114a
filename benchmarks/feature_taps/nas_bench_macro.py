"""NAS-Bench-Macro (Su et al., BCNet/MCT-NAS; github.com/xiusu/NAS-Bench-Macro): eight layers, three choices each, CIFAR-10."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.spaces import BuildOptions, Cost, Space, read_options

if TYPE_CHECKING:
    from torch import nn

STAGES = ((0, 1), (2, 3, 4), (5, 6, 7))
"""Layers by stage; the first of each halves the map and doubles the channels."""
CHOICES = {"0": None, "1": (3, 3), "2": (6, 5)}
"""Identity, or (expansion, kernel)."""
STEM, HEAD = 32, 1280


@dataclass(frozen=True, kw_only=True)
class MacroOptions(BuildOptions):
    """The defaults of CIFAR-10."""

    num_classes: int = 10
    image_size: int = 32


class NasBenchMacro(Space):
    """Strings of eight characters of 0 (identity), 1 (MB3 3×3) and 2 (MB6 5×5)."""

    name: ClassVar[str] = "nasbench_macro"
    build_options = MacroOptions

    def validate(self, arch: str) -> str:
        if len(arch) != 8 or set(arch) - set(CHOICES):
            raise ValueError(f"nasbench_macro architecture {arch!r} must be eight characters of 0, 1 and 2")
        return arch

    def canonicalise(self, arch: str) -> str:
        """Inside a stage an identity behind the first layer does nothing, so its place does not matter: they come last."""
        stages = (arch[0:2], arch[2:5], arch[5:8])
        return "".join(s[0] + "".join(sorted(s[1:], key=lambda choice: choice == "0")) for s in stages)

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        for choices in itertools.product(CHOICES, repeat=8):
            arch = "".join(choices)
            if not unique or self.canonicalise(arch) == arch:
                yield arch

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        return "".join(rng.choice("012") for _ in range(8))

    def layers(self, arch: str) -> int:
        """Layers that are no identity."""
        return 8 - arch.count("0")

    def cost(self, arch: str, **network: Any) -> Cost:
        opt = read_options(MacroOptions, network)
        macs = num_params = 0

        def conv(c_in: int, c_out: int, kernel: int, groups: int, size: int) -> None:
            nonlocal macs, num_params
            macs += c_in * c_out * kernel**2 // groups * size**2
            num_params += c_in * c_out * kernel**2 // groups + 2 * c_out

        size, width = opt.image_size, STEM
        conv(opt.in_channels, STEM, 3, 1, size)
        for number, choice in enumerate(self.validate(arch)):
            first = any(number == stage[0] for stage in STAGES)
            after, out = (-(-size // 2), 2 * width) if first else (size, width)
            if CHOICES[choice] is not None:
                expansion, kernel = CHOICES[choice]
                hidden = expansion * width
                conv(width, hidden, 1, 1, size)
                conv(hidden, hidden, kernel, hidden, after)
                conv(hidden, out, 1, 1, after)
            elif first:
                conv(width, out, 1, 1, after)
            size, width = after, out
        conv(width, HEAD, 1, 1, size)
        head = (HEAD + 1) * opt.num_classes
        return Cost(macs + head, num_params + head)

    def build(self, arch: str, **network: Any) -> nn.Module:
        from torch import nn
        from torchvision.ops import Conv2dNormActivation as Conv

        class Residual(nn.Sequential):
            def forward(self, x):
                return x + super().forward(x)

        opt = read_options(MacroOptions, network)
        layers: list[nn.Module] = []
        width = STEM
        for number, choice in enumerate(self.validate(arch)):
            first = any(number == stage[0] for stage in STAGES)
            out, stride = (2 * width, 2) if first else (width, 1)
            if CHOICES[choice] is not None:
                expansion, kernel = CHOICES[choice]
                hidden = expansion * width
                parts = (
                    Conv(width, hidden, 1, inplace=False),
                    Conv(hidden, hidden, kernel, stride, groups=hidden, inplace=False),
                    Conv(hidden, out, 1, activation_layer=None),
                )
                layers.append((nn.Sequential if first else Residual)(*parts))
            else:
                layers.append(Conv(width, out, 1, stride, activation_layer=None) if first else nn.Identity())
            width = out
        built = nn.Sequential(
            Conv(opt.in_channels, STEM, 3, inplace=False),
            *layers,
            Conv(width, HEAD, 1, inplace=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(HEAD, opt.num_classes),
        )
        built.final_map = "9"
        return built

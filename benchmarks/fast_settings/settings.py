"""The settings that are compared."""

from dataclasses import dataclass, field
from typing import Any

SMALL = {"channels": 8, "cells": 1, "image_size": 16}
IMAGENET16 = {"image_size": 16, "num_classes": 120}


@dataclass(frozen=True)
class Setting:
    """What VKDNW and its companions see; the defaults are those of `score --oracle nb201`."""

    vkdnw: int = 16
    """Images for VKDNW."""
    maps: int = 16
    """Images for expressivity and trainability."""
    jacov: int = 16
    """Images for Jacov."""
    sketch: int | None = None
    network: dict[str, int] = field(default_factory=dict)
    bfloat16: bool = False
    agg: bool = True
    """Whether there are companions of the kind."""

    def proxies(self, companions: bool) -> list[Any]:
        """As a configuration of `score` has them."""
        specs = [{"name": "vkdnw", "samples": self.vkdnw} | ({"sketch": self.sketch} if self.sketch else {})]
        if companions:
            specs += [{"name": name, "samples": self.maps} for name in ("expressivity", "trainability")]
            specs += [{"name": "jacov", "samples": self.jacov}, {"name": "aleph"}, {"name": "macs"}]
        return specs


SETTINGS = {
    "default": Setting(),
    **{f"all at {b}": Setting(b, b, b) for b in (4, 8, 32)},
    **{f"vkdnw at {b}": Setting(b) for b in (4, 8, 32)},
    "vkdnw at 4, maps at 8": Setting(4, 8),
    "vkdnw and maps at 8": Setting(8, 8),
    "vkdnw and maps at 4": Setting(4, 4),
    "vkdnw and maps at 4, jacov at 8": Setting(4, 4, 8),
    "vkdnw and maps at 4, jacov at 32": Setting(4, 4, 32),
    "vkdnw at 4, jacov at 32": Setting(4, 16, 32),
    **{f"sketch {k}": Setting(sketch=k) for k in (1, 2, 4, 8)},
    **{f"vkdnw at 8, sketch {k}": Setting(8, sketch=k) for k in (2, 4)},
    **{f"vkdnw at 4, sketch {k}": Setting(4, sketch=k) for k in (4, 8)},
    "bfloat16": Setting(bfloat16=True),
    "small network": Setting(network=SMALL),
    "C = 120": Setting(network=IMAGENET16, agg=False),
    **{f"C = 120, vkdnw at {b}": Setting(b, network=IMAGENET16, agg=False) for b in (4, 8)},
    **{f"C = 120, sketch {k}": Setting(sketch=k, network=IMAGENET16, agg=False) for k in (1, 2, 4, 8, 16)},
    **{f"C = 120, vkdnw at 8, sketch {k}": Setting(8, sketch=k, network=IMAGENET16, agg=False) for k in (4, 8)},
}


def reference(name: str) -> str:
    """The setting that another is compared with."""
    return "C = 120" if name.startswith("C = 120") else "default"

"""Search spaces: sets of architectures that can be parsed, sampled, mutated, costed and built."""

from vkdnw_pl.spaces.autoformer import AutoFormer
from vkdnw_pl.spaces.base import SPACES, BuildOptions, Cost, Space, make_space, read_options, space_key
from vkdnw_pl.spaces.mbv2 import MBV2
from vkdnw_pl.spaces.nasbench_macro import NASBenchMacro
from vkdnw_pl.spaces.nats_sss import NatsSSS
from vkdnw_pl.spaces.nb201 import NB201
from vkdnw_pl.spaces.pit import PiT
from vkdnw_pl.spaces.timm_zoo import TimmZoo

__all__ = [
    "MBV2",
    "NB201",
    "SPACES",
    "AutoFormer",
    "BuildOptions",
    "Cost",
    "NASBenchMacro",
    "NatsSSS",
    "PiT",
    "Space",
    "TimmZoo",
    "make_space",
    "read_options",
    "space_key",
]

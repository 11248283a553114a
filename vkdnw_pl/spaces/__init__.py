"""Search spaces: sets of architectures that can be parsed, sampled, mutated, costed and built."""

from vkdnw_pl.spaces.base import Cost, Space
from vkdnw_pl.spaces.known import KnownSpaces
from vkdnw_pl.spaces.mbv2 import MBV2
from vkdnw_pl.spaces.nb201 import NB201
from vkdnw_pl.spaces.timm_zoo import TimmZoo

SPACES = KnownSpaces((space.name, space) for space in (NB201(), MBV2(), TimmZoo()))

__all__ = ["MBV2", "NB201", "SPACES", "Cost", "Space", "TimmZoo"]

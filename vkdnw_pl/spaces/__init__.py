"""Search spaces: sets of architectures that can be parsed, sampled, mutated, costed and built."""

from vkdnw_pl.spaces.base import Cost, Space
from vkdnw_pl.spaces.nb201 import NB201

SPACES: dict[str, Space] = {space.name: space for space in (NB201(),)}

__all__ = ["NB201", "SPACES", "Cost", "Space"]

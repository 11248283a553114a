"""What a search space is. Spaces are torch-free; only ``build`` imports the network."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass of one image."""

    macs: int
    """Multiply-adds of convolutions and linear layers, a bias counting one per output element."""
    num_params: int
    """Number of learnable scalars."""


class Space(ABC):
    """A set of architectures, each known by its string.

    Every method that takes an architecture takes its string and raises ``ValueError`` where the string is not of
    the space, naming the place and what is allowed there.
    """

    name: ClassVar[str]

    @abstractmethod
    def validate(self, arch: str) -> str:
        """Return the canonical spelling of ``arch`` (same network, one spelling)."""

    def architecture(self, arch: str) -> str:
        """Return the canonical spelling of the network alone, without what names its weights: what is scored."""
        return self.validate(arch)

    @abstractmethod
    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """All architectures in a fixed order; ``unique`` leaves out those that repeat another's network."""

    @abstractmethod
    def sample(self, rng: random.Random, unique: bool = False) -> str:
        """Draw one architecture uniformly."""

    @abstractmethod
    def mutate(self, arch: str, rng: random.Random) -> str:
        """Return a neighbour of ``arch`` that differs in one decision."""

    @abstractmethod
    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs and parameters of the network that ``build`` makes from the same arguments."""

    @abstractmethod
    def build(self, arch: str, **network: Any) -> nn.Module:
        """Make the network with PyTorch's default initialisation."""

    @abstractmethod
    def input_size(self, **network: Any) -> tuple[int, int, int]:
        """Shape (channels, height, width) of one input image of the network that ``build`` makes."""

    @abstractmethod
    def num_classes(self, **network: Any) -> int:
        """Number of logits of the network that ``build`` makes."""

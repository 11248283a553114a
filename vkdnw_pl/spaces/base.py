"""What a search space is, and the spaces by name. Spaces are torch-free; only ``build`` imports the network."""

from __future__ import annotations

import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from vkdnw_pl.errors import check_whole, nearest
from vkdnw_pl.registry import Registry
from vkdnw_pl.runs.environment import check_memory

if TYPE_CHECKING:
    from torch import nn

Options = TypeVar("Options")


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass of one image."""

    macs: int
    """Multiply-adds of convolutions and linear layers, a bias counting one per output element."""
    num_params: int
    """Number of learnable scalars."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What the architecture's string does not say about the network; spaces derive their own from it."""

    num_classes: int = 1000
    image_size: int = 224
    """Height and width of the input in pixels."""
    in_channels: int = 3

    def __post_init__(self) -> None:
        for name in ("num_classes", "image_size", "in_channels"):
            check_whole(f"network.{name}", getattr(self, name), 1)
        largest = "image_size" if self.image_size >= self.in_channels else "in_channels"
        for name, numbers, what in (
            (largest, self.in_channels * self.image_size**2, "one image"),
            ("num_classes", self.num_classes, "the logits of one image"),
        ):
            check_memory(f"network.{name}", getattr(self, name), 4 * numbers, what)


def read_options(kind: type[Options], network: Mapping[str, Any]) -> Options:
    """Make the dataclass ``kind`` of user-given options; ValueError for an unknown one or a wrong value."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in network:
        if name not in names:
            raise ValueError(f"network option {name!r} is not known{nearest(name, names)} (known: {', '.join(names)})")
    return kind(**network)


def check_weights(arch: str, num_params: int) -> None:
    """Refuse a network whose weights this machine cannot hold, before it is built."""
    check_memory("arch", arch, 4 * num_params, "its weights")


class Space(ABC):
    """A set of architectures, each known by its string.

    Every method that takes an architecture takes its string and raises ``ValueError`` where the string is not of
    the space, naming the place and what is allowed there. Options of the network are keyword arguments; every space has
    those of `BuildOptions`.
    """

    name: ClassVar[str]
    """What texts call the space, and its name in commands where it is built in."""
    build_options: ClassVar[type[BuildOptions]] = BuildOptions
    """Options of the space's networks."""
    search_options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Options of a search that only such a space has, and their values. They are arguments of the class with a default,
    and attributes of the same names."""
    search_start: ClassVar[str | None] = None
    """Where a search begins that mutates; None where it begins with samples."""
    training_config: ClassVar[str | None] = None
    """Shipped config that trains networks of the space."""
    examples: ClassVar[str] = "sample:100 (100 random ones), a file of architectures, or a list"
    """Ways to say which architectures are meant, for texts."""
    default_archs: ClassVar[str | None] = None
    """Which architectures ``score`` takes where none are named; None where they must be."""
    decisions: ClassVar[Mapping[str, tuple[str, tuple[str, ...]]]] = {}
    """Title of a decision -> regular expression that finds it in a string, and its values; for figures of a search."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "build" in vars(cls) and "aleph" not in vars(cls):
            cls.aleph = Space.aleph  # type: ignore[method-assign]  # the inherited one is of other networks

    @property
    def key(self) -> str:
        """The name by which every other process finds the space: what run folders and found networks write down."""
        return SPACES.key(type(self))

    def parameters(self) -> dict[str, str]:
        """The values of `search_options`."""
        return {name: getattr(self, name) for name in self.search_options}

    @abstractmethod
    def validate(self, arch: str) -> str:
        """Return the canonical spelling of ``arch`` (same network, one spelling)."""

    def architecture(self, arch: str) -> str:
        """Return the canonical spelling of the network alone, without what names its weights: what is scored."""
        return self.validate(arch)

    def canonicalise(self, arch: str) -> str:
        """Return the one architecture that stands for all that are the same network."""
        return arch

    @abstractmethod
    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """All architectures in a fixed order; ``unique`` leaves out those that repeat another's network."""

    @abstractmethod
    def sample(self, rng: random.Random, unique: bool = False) -> str:
        """Draw one architecture uniformly."""

    def neighbour(self, arch: str, rng: random.Random) -> str:
        """Draw an architecture that differs from ``arch`` in one decision; ValueError where there is none."""
        raise ValueError(f"{self.name} has no neighbours; search it by random sampling")

    def mutate(self, arch: str, rng: random.Random, num_replaced: int = 1) -> str:
        """Change up to ``num_replaced`` decisions, one after the other."""
        check_whole("num_replaced", num_replaced, 1)
        for _ in range(num_replaced):
            arch = self.neighbour(arch, rng)
        return arch

    def layers(self, arch: str) -> int | None:
        """Number of layers, the column ``layers``, which searches can bound; None where the space does not count them."""
        return None

    @abstractmethod
    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs and parameters of the network that ``build`` makes from the same arguments."""

    def aleph(self, arch: str, **network: Any) -> int | None:
        """ℵ, the number of layers with weights of the network that ``build`` makes; None where only that can tell.

        A space that says it vouches for `cost` too: no network is built to count its MACs and parameters. A subclass with
        a ``build`` of its own does not inherit it.
        """
        return None

    def reference_cost(self, arch: str, **network: Any) -> Cost | None:
        """MACs and parameters as the space's published search code counts them; None where it counts as `cost` does."""
        return None

    @abstractmethod
    def build(self, arch: str, **network: Any) -> nn.Module:
        """Make the network with PyTorch's default initialisation."""

    def check_network(self, arch: str, **network: Any) -> None:
        """Refuse options that the network of ``arch`` cannot have with a ValueError, without building it."""
        check_weights(arch, self.cost(arch, **network).num_params)

    def input_size(self, **network: Any) -> tuple[int, int, int]:
        """Shape (channels, height, width) of one input image of the network that ``build`` makes."""
        options = self.read_options(network)
        return options.in_channels, options.image_size, options.image_size

    def num_classes(self, **network: Any) -> int:
        """Number of logits of the network that ``build`` makes."""
        return self.read_options(network).num_classes

    def read_options(self, network: Mapping[str, Any]) -> BuildOptions:
        """The options of the network with their defaults; ValueError for an unknown one or a wrong value."""
        return read_options(self.build_options, network)

    def available(self, archs: Sequence[str]) -> list[str]:
        """Those of a table's architectures that can be built with what is installed here."""
        return list(archs)


SPACES: Registry[Space] = Registry("space=", Space, "vkdnw_pl.spaces", lambda cls: cls.name, lambda cls: cls())
"""The spaces by name, each made without arguments; see `Registry`."""


def make_space(space: str | Space | type[Space], search_options: Mapping[str, str] | None = None) -> Space:
    """The space of a name or a class, made with options of the search, or an instance as it is.

    ValueError if the name, the option or its value is not known, or an instance has arguments that other processes
    cannot know.
    """
    if isinstance(space, Space):
        cls = type(space)
        if arguments := set(inspect.signature(cls).parameters) - set(cls.search_options):
            raise ValueError(
                f"space={cls.__qualname__!r} is not allowed as an object: other processes make the class without "
                f"{', '.join(sorted(arguments))}; derive a class for this choice"
            )
        if not search_options:
            return space
        search_options = {**space.parameters(), **search_options}
    elif isinstance(space, str):
        cls = SPACES.find(space)
    else:
        SPACES.check(space)
        cls = space
    for name, value in (search_options or {}).items():
        if name not in cls.search_options:
            spaces = [key for key, builtin in SPACES.builtin.items() if name in builtin.search_options]
            raise ValueError(f"{name}={value!r} has a meaning for {', '.join(spaces)} only; leave it out")
    return cls(**search_options) if search_options else SPACES.of(cls)


def check_imported(space: str, where: str) -> None:
    """Refuse a space's dotted name that only a file says: it would run code. One that the user gave too is imported."""
    if SPACES.imports(space):
        raise ValueError(
            f"{where} names the space {space!r}, a class of another module, whose code is not run because a file names "
            f"it: if you trust it, give --space {space} (for fit --model.space {space}; in Python import it)"
        )


def space_key(space: str | Space | type[Space]) -> str:
    """The key of a space that is given as for `make_space`; ValueError where an object has options of a search."""
    made_space = make_space(space)
    for name, value in made_space.parameters().items():
        if value != SPACES.of(type(made_space)).parameters()[name]:
            raise ValueError(f"space={made_space.name!r} has {name}={value!r}: give that as an option of the search")
    return made_space.key

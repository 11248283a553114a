"""What a proxy is: its record, its parameters, and how it says that an architecture has no score."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm
from vkdnw_pl.proxies.undefined import UndefinedScore

__all__ = ["GraphProxy", "Proxy", "ProxyInfo", "UndefinedScore"]


@dataclass(frozen=True)
class ProxyInfo:
    """Facts about a proxy; no code asks for them by the proxy's name."""

    name: str
    """Key in configurations, and first column of the score table."""
    title: str
    higher_is_better: bool
    needs_labels: bool
    input: str
    """``none`` (architecture alone) or ``images`` (a batch, random or real)."""
    batchnorm: str
    """Default behaviour of batch norm (``functional.batchnorm``), ``none`` where no forward pass is made."""
    source: str
    """Paper, equation, and official code where it differs."""


class Proxy(ABC):
    """A zero-cost proxy. Constructor arguments are its parameters, stored under their own names."""

    info: ClassVar[ProxyInfo]

    @property
    def name(self) -> str:
        """The proxy's key."""
        return self.info.name

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values that ``compute`` returns; the first is the proxy's score."""
        return (self.info.name,)

    @property
    def graph(self) -> BatchNorm | None:
        """Batch-norm behaviour of the shared forward pass that the proxy uses; None where it uses none."""
        return None

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments and their values."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        """Values of all columns for the borrowed network.

        Raises:
            UndefinedScore: where the network has no finite score by definition.
        """


class GraphProxy(Proxy):
    """A proxy that reads the forward pass which proxies of one behaviour of batch norm share.

    Args:
        batchnorm: ``batch`` as in the official code, or ``sample`` or ``running``.
    """

    def __init__(self, batchnorm: BatchNorm = "batch") -> None:
        self.batchnorm = check_batch_norm(batchnorm)

    @property
    def graph(self) -> BatchNorm:
        return self.batchnorm

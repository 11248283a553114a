"""vkdnw_pl: training-free neural architecture search with VKDNW and its companion proxies."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vkdnw_pl._version import __version__

if TYPE_CHECKING:
    from vkdnw_pl.api.networks import rank, score
    from vkdnw_pl.api.runs import read_run, read_scores
    from vkdnw_pl.api.spaces import score_space
    from vkdnw_pl.training.exported import load_exported

__all__ = ["__version__", "load_exported", "rank", "read_run", "read_scores", "score", "score_space"]

_MODULES = {
    "load_exported": "training.exported",
    "rank": "api.networks",
    "read_run": "api.runs",
    "read_scores": "api.runs",
    "score": "api.networks",
    "score_space": "api.spaces",
}
"""Name -> module that has it."""


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; `--help` and the spaces do without.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""vkdnw_pl: training-free neural architecture search with VKDNW and its companion proxies."""

from typing import TYPE_CHECKING, Any

from vkdnw_pl._version import __version__

if TYPE_CHECKING:
    from vkdnw_pl.proxies.scoring import score
    from vkdnw_pl.training.exported import load_exported

__all__ = ["__version__", "load_exported", "score"]


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; `--help` and the spaces do without.
    if name == "score":
        from vkdnw_pl.proxies.scoring import score

        return score
    if name == "load_exported":
        from vkdnw_pl.training.exported import load_exported

        return load_exported
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

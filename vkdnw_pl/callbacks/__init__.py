"""Callbacks and loggers for any Lightning trainer; they are imported when first asked for, since that takes seconds."""

from importlib import import_module
from typing import Any

from vkdnw_pl.errors import nearest

CALLBACKS = {
    "EMA": "ema",
    "FiniteLoss": "finite_loss",
    "GracefulStop": "graceful_stop",
    "HistoryLogger": "history",
    "HistoryResume": "history",
    "PredictionWriter": "prediction_writer",
    "ProxyCallback": "proxy_callback",
    "RunCheckpoints": "checkpoints",
    "Throughput": "throughput",
    "TrainProgress": "train_progress",
}
"""Name -> module of this package that has it."""


def __getattr__(name: str) -> Any:
    if name in CALLBACKS:
        return getattr(import_module(f"{__name__}.{CALLBACKS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, CALLBACKS)}")

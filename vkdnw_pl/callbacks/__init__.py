"""Callbacks and loggers for any Lightning trainer; they are imported when first asked for, since that takes seconds."""

from importlib import import_module
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import nearest
from vkdnw_pl.runs.files import json_lines, whole_lines

HISTORY = "history.jsonl"

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


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """Lines of a training's history; one that was torn off by a kill is left out.

    Args:
        path: of the file, or of the run folder that holds ``history.jsonl``.

    Raises:
        ValueError: if there is no such file, or it is damaged in another place than its end.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / HISTORY
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return [record for _, record in json_lines(whole_lines(content), path)]

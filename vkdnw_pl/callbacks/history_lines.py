"""Reader of a training's history; it needs neither PyTorch nor Lightning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HISTORY = "history.jsonl"


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """Lines of a history; one that was torn off by a kill is left out.

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
    return [record for _, record in history_records(content[: content.rfind(b"\n") + 1], path)]


def history_records(content: bytes, path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Each line, its end included, with what it holds.

    Raises:
        ValueError: if a line holds something else than a JSON object; naming ``path`` and the line.
    """
    records = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number} is damaged: it must hold 'name: value' pairs, it holds {record!r}")
        records.append((line, record))
    return records

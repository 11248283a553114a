"""What decides a result, as JSON-able values by option name: compared on resume and merge, and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""Settings as JSON-able values by option name."""


def digest(record: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name settings."""
    return text_digest(json.dumps(record, sort_keys=True))[:8]


def differences(earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """One text per option that differs, such as ``batch_size (there: 16, now: 64)``."""
    texts = []
    for name in dict.fromkeys([*settings, *earlier]):
        before, now = earlier.get(name), settings.get(name)
        if before == now:
            continue
        if name == "archs" and before and now:
            before, now = (f"{value['count']} of digest {value['sha256'][:8]}" for value in (before, now))
        texts.append(f"{name} (there: {_short(before)}, now: {_short(now)})")
    return texts


def source_record(source: Any) -> Any:
    """Where images come from; a file stands as its digest."""
    return file_record(source) if isinstance(source, str) and Path(source).is_file() else source


def file_record(path: str) -> dict[str, str]:
    """A file by its path and its content."""
    return {"file": path, "sha256": hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()}


def text_digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _short(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        return "[" + ", ".join(_named(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _named(proxy: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key}={json.dumps(value)}" for key, value in proxy.items() if key != "name")
    return f"{proxy['name']}({parameters})" if parameters else str(proxy["name"])

"""What a score row depends on, apart from its architecture and seed: compared on resume and merge, and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vkdnw_pl.data.batches import Source
    from vkdnw_pl.networks.init import Init

Record = dict[str, Any]
"""Settings as JSON-able values by option name."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Everything that decides the score table, resolved: equal settings give equal tables."""

    space: str
    network: Mapping[str, Any]
    archs: Sequence[str]
    """Canonical architectures of the whole run in order, before it is cut into shards."""
    proxies: Sequence[Mapping[str, Any]]
    """Name and every parameter of each proxy, defaults written out."""
    seeds: Sequence[int]
    batch_size: int
    input: Source
    data: Source | None
    """None where no proxy looks at it."""
    init: Init | Literal["auto"]
    device: str
    """``cpu`` or ``cuda``: the two do not round alike."""

    def record(self) -> Record:
        """JSON-able form; the architectures, and a file that the input comes from, stand as their digest."""
        record = {
            "space": self.space,
            "network": dict(self.network),
            "archs": {"count": len(self.archs), "sha256": _digest("\n".join(self.archs))},
            "proxies": [dict(proxy) for proxy in self.proxies],
            "seeds": list(self.seeds),
            "batch_size": self.batch_size,
            "input": source_record(self.input),
            "data": source_record(self.data),
            "init": self.init,
            "device": self.device,
        }
        return json.loads(json.dumps(record))  # as it reads back from a file: tuples are lists

    def digest(self) -> str:
        """Eight hexadecimal digits that name these settings."""
        return digest(self.record())


def digest(record: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name settings."""
    return _digest(json.dumps(record, sort_keys=True))[:8]


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One text per option that differs, such as ``batch_size (there: 16, now: 64)``."""
    texts = []
    for name in dict.fromkeys([*wanted, *there]):
        before, now = there.get(name), wanted.get(name)
        if before == now:
            continue
        if name == "archs" and before and now:
            before, now = (f"{value['count']} of digest {value['sha256'][:8]}" for value in (before, now))
        texts.append(f"{name} (there: {_short(before)}, now: {_short(now)})")
    return texts


def source_record(source: Source | None) -> Any:
    """Where images come from; a file stands as its digest."""
    if isinstance(source, str) and Path(source).is_file():
        return file_record(source)
    return source


def file_record(path: str) -> dict[str, str]:
    """A file by its path and its content."""
    return {"file": path, "sha256": hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _short(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        return "[" + ", ".join(_named(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _named(proxy: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key}={json.dumps(value)}" for key, value in proxy.items() if key != "name")
    return f"{proxy['name']}({parameters})" if parameters else str(proxy["name"])

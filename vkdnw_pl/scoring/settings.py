"""What a score row depends on, apart from its architecture and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vkdnw_pl.data.own_images import image_folder_args, read_own_images
from vkdnw_pl.runs.folder import Record, digest, source_record, text_digest

if TYPE_CHECKING:
    from vkdnw_pl.data.batches import Source
    from vkdnw_pl.networks.init import Init


@dataclass(frozen=True, kw_only=True)
class ScorerSettings:
    """How proxies are computed."""

    space: str
    network: Mapping[str, Any]
    proxies: Sequence[Mapping[str, Any]]
    """Name and every parameter of each proxy, defaults written out."""
    batch_size: int
    input: Source
    data: Source | None
    """None where no proxy looks at it."""
    init: Init | Literal["auto"]
    device: str
    """``cpu`` or ``cuda``: the two do not round alike."""

    def scorer_record(self) -> Record:
        """JSON-able form; a file that the images come from stands as its digest."""
        return {
            "proxies": [dict(proxy) for proxy in self.proxies],
            "batch_size": self.batch_size,
            "input": _images_record(self.input),
            "data": _images_record(self.data),
            "init": self.init,
            "device": self.device,
        }

    def record(self) -> Record:
        """JSON-able form of everything, as it reads back from a file."""
        raise NotImplementedError

    def digest(self) -> str:
        """Eight hexadecimal digits that name these settings."""
        return digest(self.record())


def _images_record(source: Any) -> Any:
    """Where images come from; files stand as their digest, a user's own images by what they are and not where they lie."""
    if (args := image_folder_args(source)) is None:
        return source_record(source)
    digest = read_own_images(str(args.pop("root"))).digest
    return {"class_path": source["class_path"], "init_args": args, "sha256": digest}


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(ScorerSettings):
    """Everything that decides the score table, resolved: equal settings give equal tables."""

    archs: Sequence[str]
    """Canonical architectures of the whole run in order, before it is cut into shards."""
    seeds: Sequence[int]

    def record(self) -> Record:
        """JSON-able form; the architectures stand as their digest."""
        record = {
            "space": self.space,
            "network": dict(self.network),
            "archs": {"count": len(self.archs), "sha256": text_digest("\n".join(self.archs))},
            "seeds": list(self.seeds),
            **self.scorer_record(),
        }
        return json.loads(json.dumps(record))  # as it reads back from a file: tuples are lists

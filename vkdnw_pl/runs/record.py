"""``meta.json`` of a run that is being made: what it depends on, its attempts, and a status that is always true."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import yaml

from vkdnw_pl.runs.environment import device_record, environment_record
from vkdnw_pl.runs.files import now, write_atomically, write_json
from vkdnw_pl.runs.folder import Record, RunFolder, digest
from vkdnw_pl.runs.signals import Stopped


class RunRecord:
    """Keeps ``config.yaml`` and ``meta.json`` while a command works.

    A ``with`` block begins with the status ``running``; `end` writes how it ended; an exception that leaves the block
    before that is written as ``failed``, a signal as ``stopped``.

    Args:
        folder: run folder, locked.
        config: options of the command, as ``config.yaml`` has them.
        settings: what decides the results, a `Record`.
        device: that computes, for the environment; None leaves it open.
        attempt: facts of this attempt.
        facts: further entries of ``meta.json``.

    Attributes:
        earlier: the record that was there before; None where there was none.
        meta: content of ``meta.json``.
        attempt: what is noted of this attempt, the last of ``meta["runs"]``.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Mapping[str, Any],
        settings: Record,
        device: str | None = None,
        attempt: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        self._folder = folder
        self._began_at = time.monotonic()
        self._ended = False
        self._before = [path.read_text("utf-8") if path.is_file() else None for path in (folder.config, folder.meta)]
        self.earlier = folder.earlier_meta()
        self.attempt: dict[str, Any] = {"started_at": now(), **(attempt or {})}
        environment = environment_record()
        if device is not None:
            environment["device"] = device_record(device)
        self.meta: dict[str, Any] = {
            "format": 1,
            "command": folder.command,
            "status": "running",
            "settings": settings,
            "digest": digest(settings),
            "environment": environment,
            **facts,
            "runs": [*(facts.get("runs") or (self.earlier or {}).get("runs", ())), self.attempt],
        }
        self._config = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)

    def __enter__(self) -> Self:
        self._folder.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder.config, self._config)
        write_json(self._folder.meta, self.meta)  # the last file, which makes the folder a run folder
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._ended:
            return
        if isinstance(error, Stopped):
            self.attempt["stopped_by"] = error.name
        self.end("failed" if isinstance(error, Exception) else "stopped")

    def end(self, status: str, **facts: Any) -> None:
        """Write how the attempt ended: ``finished``, ``stopped``, ``failed``, or a status of the command's own."""
        self._ended = True
        self.meta["status"] = status
        self.attempt |= {"finished_at": now(), "elapsed_s": round(time.monotonic() - self._began_at, 3), **facts}
        write_json(self._folder.meta, self.meta)

    def put_back(self) -> bool:
        """Leave the record as it was before, of a run that this attempt could not go on with; false if there was none."""
        self._ended = True
        if None in self._before:
            return False
        for path, text in zip((self._folder.config, self._folder.meta), self._before, strict=True):
            write_atomically(path, text or "")
        return True

"""The run folder: what is in it, who may write to it, and whether a rerun may continue it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from vkdnw_pl.errors import CommandFailed, UsageError, one_line, shown
from vkdnw_pl.runs.documents import read_json
from vkdnw_pl.runs.files import remove_drafts, sha256_of

Record = dict[str, Any]
"""What decides a result, as JSON-able values by option name: compared on resume and merge, and hashed."""

WANDB_FOLDER, WANDB_ID = "wandb", "wandb_id"
"""What Weights & Biases keeps in a run folder, and the id of its run there."""

NOUNS = {
    "score": "a scoring",
    "merge": "a scoring",
    "search": "a search",
    "fit": "a training",
    "evaluate": "an evaluation",
    "label": "an accuracy table",
}
"""Command -> what its run folder holds."""


_META = {"command": str, "status": str, "settings": dict, "digest": str, "environment": dict, "runs": list}
"""What ``meta.json`` holds, as far as anybody relies on it."""


class FolderBusy(CommandFailed):
    """Another process writes to the run folder."""


def check_out(path: str | Path) -> None:
    """``UsageError`` where a file is in the way of a folder for results."""
    folder = Path(path).expanduser()
    for place in (folder, *folder.parents):
        if place.is_file():
            raise UsageError(f"out={str(folder)!r} is not allowed: {place} is a file")


class RunFolder:
    """A run folder: ``config.yaml`` the options, ``meta.json`` the record of how it was made, and the command's results.

    A command declares its folder as a subclass.

    Attributes:
        command: whose folder it is; "" for one that is only read.
        files: glob patterns of what this command writes beside ``config.yaml`` and ``meta.json``.
        evidence: those of `files` that are results: without a ``meta.json`` nobody knows how they were made.
        draft_folders: folders, relative to this one, in which a killed process leaves half-written files.
    """

    command: ClassVar[str] = ""
    files: ClassVar[tuple[str, ...]] = ()
    evidence: ClassVar[tuple[str, ...]] = ()
    draft_folders: ClassVar[tuple[str, ...]] = (".",)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.config = self.path / "config.yaml"
        self.meta = self.path / "meta.json"
        self.scores = self.path / "scores.csv"
        self.ranking = self.path / "ranking.csv"
        self.metrics = self.path / "metrics.csv"
        self.figures = self.path / "figures"

    @contextmanager
    def lock(self, patience_s: float | None = None) -> Iterator[None]:
        """Hold the folder for this process and those that it starts; half-written files of killed ones go.

        Args:
            patience_s: how long to wait for another process. Default: see `_patience_s`.

        Raises:
            FolderBusy: if another process keeps it.
            UsageError: if a file is in the way, or the folder cannot be made.
        """
        check_out(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, PermissionError) as error:
            raise UsageError(f"out={str(self.path)!r} cannot be made: {error.strerror}") from error
        file = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            deadline = time.monotonic() + (_patience_s() if patience_s is None else patience_s)
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise FolderBusy(f"{self.path} is being written by another process; wait for it, or end it first")
                time.sleep(0.2)
            for folder in self.draft_folders:
                remove_drafts(self.path / folder)
            yield
        finally:
            os.close(file)

    @contextmanager
    def lock_if_free(self) -> Iterator[None]:
        """As `lock`, but beside another process that holds the folder its half-written files are left to it."""
        with ExitStack() as stack:
            with suppress(FolderBusy):
                stack.enter_context(self.lock(patience_s=0))
            yield

    def read_meta(self) -> dict[str, Any]:
        """Content of ``meta.json``; a ``ValueError`` if there is none."""
        if not self.meta.is_file():
            raise ValueError(f"{self.path} is not a run folder: it has no {self.meta.name}")
        meta = read_json(self.meta)
        for name, kind in _META.items():
            if not isinstance(meta.get(name, kind()), kind):
                raise ValueError(f"{self.meta} is damaged: its {name} is {shown(meta[name])}")
        if any(not isinstance(run, dict) for run in meta.get("runs", [])):
            raise ValueError(f"{self.meta} is damaged: its runs are {shown(meta['runs'])}")
        return meta

    def earlier_meta(self) -> dict[str, Any] | None:
        """Content of ``meta.json``, or None where nothing was made here; a ``ValueError`` if it is another command's."""
        if not self.meta.is_file():
            return None
        meta = self.read_meta()
        owner = str(meta.get("command"))
        if NOUNS.get(owner, owner) != NOUNS[self.command]:
            raise ValueError(
                f"{self.path} holds {NOUNS.get(owner, f'a run of {owner!r}')}, not {NOUNS[self.command]}: choose another "
                "folder with --out"
            )
        return meta

    def check_continues(self, settings: Record, overwrite: bool = False, partial: bool = False) -> None:
        """Refuse a folder of another command, with results of other settings (naming them) or of unknown origin.

        Args:
            settings: what decides the results.
            overwrite: results of this command may be of other settings.
            partial: compare only what ``settings`` names: before a job runs, its device is not known.

        Raises:
            ValueError: if results with these settings may not be added.
        """
        meta = self.earlier_meta()
        if overwrite:
            return
        ways_out = "choose another folder with --out, or give --overwrite to delete the results that are there"
        if meta is None:
            results = [path.name for pattern in self.evidence for path in sorted(self.path.glob(pattern))]
            if results:
                raise ValueError(
                    f"{self.path} holds {results[0]} but no {self.meta.name} that says how it was made: {ways_out}"
                )
            return
        before = meta.get("settings", {})
        if partial:
            before = {name: before.get(name) for name in settings}
        if different := differences(before, settings):
            raise ValueError(f"{self.path} was made with other settings: {'; '.join(different)}. So {ways_out}")

    def clear(self) -> None:
        """Delete the record and what this command wrote; files of other origin stay."""
        self.earlier_meta()
        for pattern in (self.meta.name, self.config.name, *self.files):
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        remove_wandb(self.path)


def remove_wandb(folder: Path) -> None:
    """Delete what W&B keeps in a run folder, so that the next run there is a new one."""
    ids = [folder / WANDB_ID, *folder.glob(f"{WANDB_ID}.*")]
    if any(path.is_file() for path in ids):  # else the folder ``wandb`` is somebody else's
        shutil.rmtree(folder / WANDB_FOLDER, ignore_errors=True)
    for path in ids:
        path.unlink(missing_ok=True)


def digest(record: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name settings."""
    return text_digest(json.dumps(record, sort_keys=True))[:8]


def differences(earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """One text per option that differs, such as ``batch_size (there: 16, now: 64)``."""
    texts = []
    for name in dict.fromkeys([*settings, *earlier]):
        before, now = earlier.get(name), settings.get(name)
        is_new = name not in earlier and (now is None or now is False)  # an option that came since, and is off
        if before == now or is_new:
            continue
        lists = [value for value in (before, now) if isinstance(value, dict) and {"count", "sha256"} <= set(value)]
        if name == "archs" and len(lists) == 2:
            before, now = (f"{value['count']} of digest {str(value['sha256'])[:8]}" for value in lists)
        if name == "data.images":
            before, now = (f"pictures of digest {value[:8]}" if isinstance(value, str) else value for value in (before, now))
        texts.append(one_line(f"{name} (there: {_short(before)}, now: {_short(now)})", 10_000))
    return texts


def source_record(source: Any) -> Any:
    """Where images come from; a file stands as its digest."""
    return file_record(source) if isinstance(source, str) and Path(source).is_file() else source


def file_record(path: str) -> dict[str, str]:
    """A file by its path and its content."""
    return {"file": path, "sha256": sha256_of(Path(path).expanduser())}


def text_digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _patience_s() -> float:
    """Workers of a run that was killed take a moment to notice, a network file system minutes to forget a dead node."""
    return 30.0 if os.environ.get("SLURM_RESTART_COUNT", "0") == "0" else 180.0


def _try_lock(file: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: no such lock; two runs in one folder then only waste work, journals are apart
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        # A file system of a cluster without locks: the same as on Windows.
    return True


def _short(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        return "[" + ", ".join(_named(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _named(proxy: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key}={json.dumps(value)}" for key, value in proxy.items() if key != "name")
    return f"{proxy['name']}({parameters})" if parameters else str(proxy["name"])

"""The run folder: what is in it, who may write to it, and whether a rerun may continue it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.journal import read_journals
from vkdnw_pl.runs.settings import Record, differences
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable, join_rows, read_table, write_table

WANDB_FOLDER, WANDB_ID = "wandb", "wandb_id"
"""What Weights & Biases keeps in a run folder, and the id of its run there."""


class FolderBusy(RuntimeError):
    """Another process writes to the run folder."""


class RunFolder:
    """A run folder.

    ``config.yaml`` the options, ``meta.json`` the record of how it was made, ``archs.txt`` the architectures of the
    whole run in order, ``rows/`` journals of unfinished runs, ``scores.csv`` ``ranking.csv`` ``metrics.csv``
    ``figures/`` the results.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.config = self.path / "config.yaml"
        self.meta = self.path / "meta.json"
        self.archs = self.path / "archs.txt"
        self.journals = self.path / "rows"
        self.scores = self.path / "scores.csv"
        self.ranking = self.path / "ranking.csv"
        self.metrics = self.path / "metrics.csv"
        self.figures = self.path / "figures"

    @contextmanager
    def lock(self, patience_s: float | None = None) -> Iterator[None]:
        """Hold the folder for this process and those that it starts.

        Args:
            patience_s: how long to wait for another process. Default: half a minute, for workers of a run that was killed
                take a moment to notice; longer for a job that was requeued, as a network file system may take its time
                to forget a node that died.

        Raises:
            FolderBusy: if another process keeps it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            deadline = time.monotonic() + (_patience_s() if patience_s is None else patience_s)
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise FolderBusy(f"{self.path} is being written by another process; wait for it, or end it first")
                time.sleep(0.2)
            yield
        finally:
            os.close(file)

    def read_meta(self) -> dict[str, Any]:
        """Content of ``meta.json``.

        Raises:
            ValueError: if the folder has none.
        """
        if not self.meta.is_file():
            raise ValueError(f"{self.path} is not a run folder: it has no {self.meta.name}")
        try:
            return json.loads(self.meta.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.meta} is damaged: {error}") from error

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace ``meta.json``."""
        write_atomically(self.meta, json.dumps(meta, indent=2, ensure_ascii=False) + "\n")

    @contextmanager
    def true_status(self, meta: dict[str, Any]) -> Iterator[None]:
        """Write ``status`` into the record if what is done here ends in an error or is interrupted."""
        try:
            yield
        except BaseException as error:
            meta["status"] = "failed" if isinstance(error, Exception) else "stopped"
            self.write_meta(meta)
            raise

    def read_archs(self) -> list[str]:
        """Architectures of the whole run in order."""
        return self.archs.read_text(encoding="utf-8").splitlines()

    def check_continues(self, settings: Record) -> None:
        """Make sure that rows with these settings may be added.

        Raises:
            ValueError: if the folder holds results that were made with other settings (naming them), or of unknown
                origin.
        """
        ways_out = "choose another folder with --out, or give --overwrite to delete the results that are there"
        if self.meta.is_file():
            if different := differences(self.read_meta().get("settings", {}), settings):
                raise ValueError(f"{self.path} was made with other settings: {'; '.join(different)}. So {ways_out}")
        elif self.scores.exists() or self.journals.exists():
            raise ValueError(
                f"{self.path} holds scores but no {self.meta.name} that says how they were made; {ways_out}"
            )

    def start(self, config: str, archs: Sequence[str], meta: Mapping[str, Any]) -> None:
        """Write the record of a run before its rows; the last file makes the folder a run folder."""
        write_atomically(self.archs, "".join(f"{arch}\n" for arch in archs))
        write_atomically(self.config, config)
        self.write_meta(meta)

    def clear(self) -> None:
        """Delete the results and the record; files of other origin stay."""
        for path in (self.meta, self.config, self.archs, self.scores, self.ranking, self.metrics):
            path.unlink(missing_ok=True)
        remove_figures(self.figures)
        if self.journals.exists():
            shutil.rmtree(self.journals)
        remove_wandb(self.path)

    def read_rows(self) -> dict[Key, ScoreRow]:
        """Rows that are on the disk, finished table and journals joined.

        Raises:
            ValueError: if a file is damaged or two rows contradict each other.
        """
        rows = read_table(self.scores).rows if self.scores.is_file() else []
        return join_rows([*rows, *read_journals(self.journals)], str(self.path))

    def write_scores(self, table: ScoreTable) -> None:
        """Write the table, then drop the journals whose rows it holds."""
        write_table(self.scores, table)
        if self.journals.exists():
            shutil.rmtree(self.journals)


def remove_wandb(folder: Path) -> None:
    """Delete what W&B keeps in a run folder, so that the next run there is another one for it too."""
    ids = [folder / WANDB_ID, *folder.glob(f"{WANDB_ID}.*")]
    if any(path.is_file() for path in ids):  # else the folder ``wandb`` is somebody else's
        shutil.rmtree(folder / WANDB_FOLDER, ignore_errors=True)
    for path in ids:
        path.unlink(missing_ok=True)


def remove_figures(folder: Path) -> None:
    """Delete figures of an earlier evaluation, and no others."""
    for figure in [folder / "ndcg.png", *folder.glob("ranks_*.png")]:
        figure.unlink(missing_ok=True)


def _patience_s() -> float:
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

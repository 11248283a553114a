"""The W&B run around one call of a command."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.signals import Stopped, stop_signals
from vkdnw_pl.tracking.options import wandb_options
from vkdnw_pl.tracking.session import Session, begin, exit_code

_MAX_ROWS = 200_000
"""More rows W&B does not show in a table."""
_LONG = 100
"""Longer lists of the options stand in W&B's config as their number of items."""


class Tracked:
    """What a command logs with. Without W&B, or when it has failed, every method does nothing.

    Args:
        session: the W&B run, or None.
        folder: run folder.
    """

    def __init__(self, session: Session | None, folder: Path) -> None:
        self._session, self._folder = session, folder
        self.code = 0

    @property
    def active(self) -> bool:
        """Whether anything is logged."""
        return self._session is not None and self._session.alive

    @property
    def _run(self) -> Any:
        assert self._session is not None
        return self._session.run

    @contextmanager
    def _safely(self) -> Iterator[None]:
        assert self._session is not None
        with self._session.safely():
            yield

    def ended(self, code: int) -> int:
        """Note the command's exit code, and return it."""
        self.code = code
        return code

    def axis(self, prefix: str, name: str) -> None:
        """Draw all curves ``prefix/...`` over the values of ``name``."""
        if self.active:
            with self._safely():
                self._run.define_metric(name)
                self._run.define_metric(f"{prefix}/*", step_metric=name)

    def log(self, values: Mapping[str, float | None]) -> None:
        """Add a point to curves; what is not finite is left out."""
        if self.active and (known := _finite(values)):
            with self._safely():
                self._run.log(known)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set values of the run; what is not finite is left out."""
        if self.active and (known := _finite(values)):
            with self._safely():
                self._run.summary.update(known)

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Log a table; a number that is not finite becomes an empty cell."""
        if not self.active:
            return
        with self._safely():
            import wandb

            data = [[_cell(value) for value in row] for row in rows]
            if len(data) > _MAX_ROWS:
                print(f"note: W&B's table {name} has the first {_MAX_ROWS:,} of {len(data):,} rows", file=sys.stderr)
            table = wandb.Table(columns=list(columns), data=data[:_MAX_ROWS], allow_mixed_types=True)
            self._run.log({name: table})

    def images(self, paths: Iterable[Path]) -> None:
        """Log PNG files as ``figures/<name>``."""
        there = [path for path in paths if path.is_file()]
        if self.active and there:
            with self._safely():
                import wandb

                self._run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in there})

    def artifact(self, kind: str, paths: Iterable[Path]) -> None:
        """Keep those of the files that exist as one artifact, ``<kind>-<id of the run>``."""
        there = [path for path in paths if path.is_file()]
        if self.active and there:
            with self._safely():
                import wandb

                artifact = wandb.Artifact(f"{kind}-{self._run.id}", type=kind)
                for path in there:
                    inside = path.is_relative_to(self._folder)
                    artifact.add_file(
                        str(path), name=path.relative_to(self._folder).as_posix() if inside else path.name
                    )
                self._run.log_artifact(artifact)


@contextmanager
def tracked_run(
    options: Mapping[str, Any], folder: Path, command: str, meta: Mapping[str, Any], group: str | None = None
) -> Iterator[Tracked]:
    """Open the W&B run that the options ask for, and end it with the command's exit code.

    The run belongs to this process; worker processes that are started meanwhile do not touch it. SIGINT, SIGTERM and
    the like end it in good order.

    Args:
        options: of the command, resolved: W&B's config; ``wandb``, ``wandb_group`` and ``wandb_tags`` say where to.
        folder: run folder.
        command: its name.
        meta: content of ``meta.json``; versions, commit and device are part of W&B's config.
        group: where neither the options nor the environment name one.

    Raises:
        ValueError: see `wandb_options`.
        KeyboardInterrupt: on SIGINT.
        SystemExit: on another of the signals, with 128 + its number.
    """
    asked = wandb_options(options)
    session = None
    if asked is not None:
        arguments = {
            "project": asked.project,
            "entity": asked.entity,
            "group": asked.group or os.environ.get("WANDB_RUN_GROUP") or group,
            "tags": list(asked.tags) or None,
            "config": wandb_config(options, meta),
            "reinit": "create_new",  # a run of the calling program stays as it is
        }
        # Its copy of our output would go through the hands of every worker process.
        console = {} if os.environ.get("WANDB_CONSOLE") else {"console": "off"}
        session = begin(folder, command, arguments, console)
    tracked = Tracked(session, folder)
    if session is None:
        yield tracked
        return
    try:
        with stop_signals():
            try:
                yield tracked
            except BaseException as error:
                tracked.code = exit_code(error)
                raise
            finally:
                session.finish(tracked.code)
    except Stopped as stop:
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt from stop
        print(f"\nstopped by {stop.name}; the same command continues", file=sys.stderr)
        raise SystemExit(128 + stop.signum) from stop


def group_of(command: str, digest: str) -> str:
    """Group of all runs with these settings: the shards of one scoring and their merge, the restarts of one search."""
    return f"{command}-{digest}"


def wandb_config(options: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """W&B's config: the options by name, and below ``meta`` what is known of the run."""
    kept = {name: meta[name] for name in ("command", "digest", "environment") if name in meta}
    return {**{name: _brief(value) for name, value in options.items()}, "meta": kept}


def _brief(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) > _LONG:
        return f"{len(value)} items, the first is {value[0]}"
    return value


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if _cell(value) is not None}


def _cell(value: Any) -> Any:
    """The value, or None for a number that JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

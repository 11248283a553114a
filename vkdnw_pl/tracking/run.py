"""A run of Weights & Biases beside a command: online or offline, and allowed to fail without harm to the command."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import first_line, one_line
from vkdnw_pl.options import WandbOptions, wandb_environment
from vkdnw_pl.runs.folder import WANDB_FOLDER, WANDB_ID
from vkdnw_pl.runs.signals import Stopped, exit_code, stop_signals

_OWNERS = ("score", "search", "fit", "label", "merge")  # the run folder is theirs; other commands only look at one
_MAX_ROWS = 200_000  # of a table; W&B shows no more
_LONG = 100  # longer lists of the options stand in W&B's config as their number of items
_WITHOUT = "going on without it, all results are in the run folder"


class WandbRun:
    """What a command logs with. Without W&B, or after its first failure, which is said in one line, nothing happens.

    Args:
        run: wandb's run; None for no W&B.
        folder: run folder.
        cleanup: closed at the end.

    Attributes:
        active: whether anything is logged.
        exit_code: of the command, which W&B shows.
    """

    def __init__(self, run: Any, folder: Path, cleanup: ExitStack | None = None) -> None:
        self.run, self.folder, self._cleanup = run, folder, cleanup or ExitStack()
        self.active = run is not None
        self.exit_code = 0
        self._logged_at = -math.inf

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Do what calls wandb, while anything is logged; an exception is said and ends the logging, not the command."""
        try:
            return work() if self.active else None
        except Exception as error:  # wandb raises much, also what is not documented
            _say(f"W&B failed ({_short(error)}); {_WITHOUT}")
            logging.getLogger("wandb").setLevel(logging.CRITICAL)  # what follows from it is not worth a traceback
            self.active = False

    def log(self, values: Mapping[str, float | None]) -> None:
        """Add a point to curves; what is not finite is left out."""
        if finite := _finite(values):
            self.attempt(lambda: self.run.log(finite))

    def log_every(self, every_s: float, point: Callable[[], Mapping[str, float | None]]) -> None:
        """Add a point to curves, if the latest is older than so many seconds."""
        if self.active and time.monotonic() - self._logged_at >= every_s:
            self._logged_at = time.monotonic()
            self.log(point())

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set values of the run; what is not finite is left out."""
        self.attempt(lambda: self.run.summary.update(_finite(values)))

    def table(self, name: str, columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
        """Log a table; a number that is not finite becomes an empty cell."""

        def log_table() -> None:
            data = [[_cell(value) for value in row] for row in rows]
            if len(data) > _MAX_ROWS:
                _say(f"W&B's table {name} has the first {_MAX_ROWS:,} of {len(data):,} rows")
            table = sys.modules["wandb"].Table(columns=list(columns), data=data[:_MAX_ROWS], allow_mixed_types=True)
            self.run.log({name: table})

        self.attempt(log_table)

    def images(self, paths: Iterable[Path]) -> None:
        """Log those of the PNG files that exist as ``figures/<name>``."""
        files = {f"figures/{path.stem}": str(path) for path in paths if path.is_file()}
        if files:
            self.attempt(lambda: self.run.log({key: sys.modules["wandb"].Image(path) for key, path in files.items()}))

    def artifact(self, kind: str, paths: Iterable[Path]) -> None:
        """Keep those of the files that exist as one artifact, ``<kind>-<id of the run>``."""
        files = [path for path in paths if path.is_file()]

        def log_artifact() -> None:
            artifact = sys.modules["wandb"].Artifact(f"{kind}-{self.run.id}", type=kind)
            for path in files:
                artifact.add_file(str(path))
            self.run.log_artifact(artifact)

        if files:
            self.attempt(log_artifact)

    def finish(self) -> None:
        """End the run; waits a limited time for what is to be uploaded."""
        with self._cleanup:
            self.attempt(lambda: self.run.finish(exit_code=self.exit_code))
            if self.run is not None and not self.active and sys.modules["wandb"].run in (None, self.run):
                _tear_down(self.exit_code)
            self.active = False


@contextmanager
def wandb_run(
    options: WandbOptions,
    config: Mapping[str, Any],
    folder: Path,
    command: str,
    meta: Mapping[str, Any],
    group: str | None = None,
) -> Iterator[WandbRun]:
    """Open the W&B run that the options ask for, and end it with the command's exit code.

    The run belongs to this process; worker processes that are started meanwhile do not touch it. SIGINT, SIGTERM and
    the like end it in good order.

    Args:
        config: all options of the command, which become W&B's config.
        meta: content of ``meta.json``; versions, commit and device are part of W&B's config.
        group: where neither the options nor the environment name one.

    Raises:
        KeyboardInterrupt: on SIGINT.
        SystemExit: on another of the signals, with 128 + its number.
    """
    run = WandbRun(None, folder)
    if options.wandb:
        facts = {name: meta[name] for name in ("command", "digest", "environment") if name in meta}
        arguments = {
            "project": options.wandb_project,
            "entity": options.wandb_entity,
            "group": options.wandb_group or os.environ.get("WANDB_RUN_GROUP") or group,
            "tags": options.wandb_tags or None,
            "config": {**{name: _brief(value) for name, value in config.items()}, "meta": facts},
            "reinit": "create_new",  # a run of the calling program stays as it is
            # W&B's copy of our output would go through the hands of every worker process.
            "settings": {} if os.environ.get("WANDB_CONSOLE") else {"console": "off"},
        }
        run = begin(folder, command, arguments)
    try:
        with stop_signals():
            try:
                yield run
            except BaseException as error:
                run.exit_code = exit_code(error)
                raise
            finally:
                run.finish()
    except Stopped as stop:
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt from stop
        print(f"\nstopped by {stop.name}; the same command continues", file=sys.stderr)
        raise SystemExit(stop.exit_code) from stop


def begin(folder: Path, command: str, arguments: Mapping[str, Any]) -> WandbRun:
    """Begin or continue the W&B run of a run folder.

    Without a key, or where the server does not answer in time, it is written offline, which is said in one line. Where
    W&B is disabled or does not work, which is said, the run that is returned does nothing.

    Args:
        folder: run folder.
        command: decides which run of the folder it is; its job type.
        arguments: of ``wandb.init``, ``settings`` as a mapping; those that are None or absent get the toolkit's defaults.
    """
    mode, settings = wandb_environment()
    mode = arguments.get("mode") or mode
    if mode == "disabled":
        return WandbRun(None, folder)
    callers_run = getattr(sys.modules.get("wandb"), "run", None)
    wandb_folder = folder.resolve() / WANDB_FOLDER
    # What wandb would keep below the home folder; what the user says there holds.
    variables = {"WANDB_DATA_DIR": wandb_folder, "WANDB_CACHE_DIR": wandb_folder / "cache", "WANDB_SILENT": "true"}
    with ExitStack() as cleanup:
        for variable in variables.keys() - os.environ.keys():
            os.environ[variable] = str(variables[variable])
            cleanup.callback(os.environ.pop, variable, None)
        try:
            wandb_folder.mkdir(parents=True, exist_ok=True)
            if not os.access(wandb_folder, os.W_OK):
                raise PermissionError(f"{wandb_folder} takes no files")  # wandb would go to the system's folder
            defaults = {
                "dir": str(folder.resolve()),
                "id": run_id(folder, command),
                "resume": "allow",
                "job_type": command,
                "project": os.environ.get("WANDB_PROJECT") or "vkdnw_pl",
                "name": os.environ.get("WANDB_NAME") or folder.resolve().name,
            }
            given = {name: value for name, value in arguments.items() if value is not None and name != "mode"}
            given["settings"] = {**settings, "silent": True, **given.get("settings", {})}
            return WandbRun(_init(defaults | given, mode, wandb_folder), folder, cleanup.pop_all())
        except Exception as error:
            _say(f"W&B does not work ({_short(error)}); {_WITHOUT}")
            return WandbRun(None, folder)
        except BaseException as error:  # a signal, which may find wandb with a run that nobody else knows of yet
            if callers_run is None:
                _tear_down(exit_code(error))
            raise


def _init(arguments: dict[str, Any], mode: Any, wandb_folder: Path) -> Any:
    if "wandb" not in sys.modules:
        os.environ.pop("WANDB_SERVICE", None)  # of a process that started this one; its end would be ours
    import wandb

    arguments["settings"] = wandb.Settings(**arguments["settings"])
    reason, attempts_before = "", set(wandb_folder.glob("run-*"))
    if mode not in ("offline", "dryrun"):
        try:
            if wandb.run is not None or wandb.login(prompt=False, verify=False):
                run = wandb.init(**arguments, mode=mode)
                _say(f"W&B: {run.url or wandb_folder}")
                return run
            reason = "there is no W&B key (WANDB_API_KEY or `wandb login`), so "
        except Exception as error:
            reason = f"W&B cannot be reached ({_short(error)}), so "
            if wandb.run is None:
                _tear_down(1)  # else the run's id is still in use
            for attempt in set(wandb_folder.glob("run-*")) - attempts_before:
                shutil.rmtree(attempt, ignore_errors=True)
    _say(f"{reason}W&B writes offline below {wandb_folder} (`wandb sync` sends it)")
    return wandb.init(**arguments, mode="offline")


def run_id(folder: Path, command: str) -> str:
    """The id of the W&B run of this folder and command, by which a rerun continues it; kept in ``wandb_id``."""
    file = folder / (WANDB_ID if command in _OWNERS else f"{WANDB_ID}.{command}")
    kept = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    name = os.environ.get("WANDB_RUN_ID") or kept or os.urandom(4).hex()
    if name != kept:
        file.write_text(name + "\n", encoding="utf-8")
    return name


def _tear_down(code: int) -> None:
    """Let wandb forget a service that died, which would end a run of the calling program too."""
    if "wandb" in sys.modules:
        with suppress(Exception):
            sys.modules["wandb"].teardown(code)


def _brief(value: Any) -> Any:
    is_long = isinstance(value, list | tuple) and len(value) > _LONG
    return f"{len(value)} items, the first is {value[0]}" if is_long else value


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if _cell(value) is not None}


def _cell(value: Any) -> Any:
    """The value, or None for a number that JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(error: BaseException) -> str:
    """First line of an error's text."""
    return one_line(first_line(error), 200)


def _say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)

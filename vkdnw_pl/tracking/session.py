"""One W&B run: begun online or offline, and allowed to fail without harm."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.signals import Stopped
from vkdnw_pl.tracking.options import PROJECT, chosen_mode, finish_timeout_s, has_key, init_timeout_s
from vkdnw_pl.tracking.place import make_folder, run_id, use_folder

_WITHOUT = "going on without it, all results are in the run folder"


class Session:
    """A W&B run. Its first failure is said in one line, and then nothing more is logged.

    Args:
        run: wandb's.
        cleanup: closed at the end.
    """

    def __init__(self, run: Any, cleanup: ExitStack) -> None:
        self.run, self._cleanup = run, cleanup
        self.alive = True

    @contextmanager
    def safely(self) -> Iterator[None]:
        """Around everything that calls wandb: what goes wrong there ends the logging, not the command."""
        try:
            yield
        except Exception as error:  # wandb raises much, also what is not documented
            if self.alive:
                _say(f"W&B failed ({_short(error)}); {_WITHOUT}")
                logging.getLogger("wandb").setLevel(logging.CRITICAL)  # what follows from it is not worth a traceback
            self.alive = False

    def finish(self, code: int) -> None:
        """End the run with the command's exit code; waits a limited time for what is to be uploaded."""
        try:
            if self.alive:
                with self.safely():
                    self.run.finish(exit_code=code)
            if not self.alive:
                self._let_go(code)
        finally:
            self.alive = False
            self._cleanup.close()

    def _let_go(self, code: int) -> None:
        """Forget a service that died, which wandb would else complain of when the program ends."""
        import wandb

        with self.safely():
            wandb.teardown(code)


def begin(folder: Path, command: str, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> Session | None:
    """Begin or continue the W&B run of a run folder.

    Without a key, or where the server does not answer in time, it is written offline, which is said in one line.

    Args:
        folder: run folder.
        command: decides which run of the folder it is, and is its job type.
        arguments: of ``wandb.init``; those that are None or absent get what a run of ours has.
        settings: of ``wandb.Settings``, beside ours.

    Returns:
        None where W&B is disabled or does not work; that is said.
    """
    mode = arguments.get("mode") or chosen_mode()
    if mode == "disabled":
        return None
    cleanup = ExitStack()
    try:
        inner = make_folder(folder)
        if "wandb" not in sys.modules:
            os.environ.pop("WANDB_SERVICE", None)  # of a process that started this one; its end would be ours
        cleanup.enter_context(use_folder(inner))
        given = {name: value for name, value in arguments.items() if value is not None and name != "mode"}
        wanted = {**_defaults(folder, command), **given}
        wanted["settings"] = {**_settings(), **settings}
        run = _init(wanted, mode, inner)
    except Exception as error:
        cleanup.close()
        _say(f"W&B does not work ({_short(error)}); {_WITHOUT}")
        return None
    except BaseException as error:  # a signal, which may find wandb with a run that nobody else knows of yet
        cleanup.close()
        if "wandb" in sys.modules:
            with suppress(Exception):
                sys.modules["wandb"].teardown(exit_code(error))
        raise
    return Session(run, cleanup)


def _init(wanted: dict[str, Any], mode: str | None, inner: Path) -> Any:
    import wandb

    options = {**wanted, "settings": wandb.Settings(**wanted["settings"])}
    how = f"W&B writes offline below {inner} (`wandb sync` sends it)"
    if mode == "offline":
        _say(how)
    elif not has_key():
        _say(f"there is no W&B key (WANDB_API_KEY or `wandb login`), so {how}")
    else:
        before = set(inner.glob("run-*"))
        try:
            run = wandb.init(**options if mode is None else {**options, "mode": mode})
            _say(f"W&B: {run.url}" if run.url else how)
            return run
        except Exception as error:
            _say(f"W&B cannot be reached ({_short(error)}), so {how}")
        wandb.teardown(1)  # else the run's id is still in use
        for attempt in set(inner.glob("run-*")) - before:
            shutil.rmtree(attempt, ignore_errors=True)
    return wandb.init(**options, mode="offline")


def _defaults(folder: Path, command: str) -> dict[str, Any]:
    return {
        "dir": str(folder.resolve()),
        "id": run_id(folder, command),
        "resume": "allow",
        "job_type": command,
        "project": os.environ.get("WANDB_PROJECT") or PROJECT,
        "name": os.environ.get("WANDB_NAME") or folder.resolve().name,
    }


def _settings() -> dict[str, Any]:
    return {"init_timeout": init_timeout_s(), "finish_timeout": finish_timeout_s(), "silent": True}


def exit_code(error: BaseException) -> int:
    """Exit code of a command that ends with this exception."""
    if isinstance(error, Stopped):
        return 128 + error.signum
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    code = getattr(error, "exit_code", getattr(error, "code", 1))
    return code if isinstance(code, int) else 1


def _short(error: BaseException) -> str:
    """One line of an error that may have many."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:200] + " ..."


def _say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)

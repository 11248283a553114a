"""A W&B run for code that is not ours: it can be used as wandb's, and what fails there stays there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vkdnw_pl.tracking.session import Session

_PLAIN = (str, int, float, bool, type(None))


class Guarded:
    """wandb's run, its summary or its config, as `Session.safely` lets it be used.

    Args:
        session: the run; None where there is none, then nothing happens.
        target: what is guarded.
    """

    def __init__(self, session: Session | None, target: Any) -> None:
        self._session, self._target = session, target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._use(lambda: getattr(self._target, name))

    def __getitem__(self, name: Any) -> Any:
        return self._use(lambda: self._target[name])

    def __setitem__(self, name: Any, value: Any) -> None:
        self._use(lambda: self._target.__setitem__(name, value))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._use(lambda: self._target(*arguments, **named))

    def _use(self, work: Callable[[], Any]) -> Any:
        if self._session is None or not self._session.alive:
            return Guarded(None, None)
        found: Any = Guarded(None, None)
        with self._session.safely():
            found = work()
        return found if isinstance(found, _PLAIN) else Guarded(self._session, found)

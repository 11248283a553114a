"""Makes the missing rows of a run folder, and outlives workers that die."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from vkdnw_pl.callbacks.score_progress import ScoreProgress
from vkdnw_pl.callbacks.score_writer import ScoreWriter
from vkdnw_pl.errors import CommandFailed
from vkdnw_pl.runs.journal import Journal
from vkdnw_pl.runs.table import FAILED, Key, ScoreRow
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.module import ScoringModule
from vkdnw_pl.scoring.predict import WorkerDied, predict, start_method
from vkdnw_pl.scoring.score_settings import ScoreSettings
from vkdnw_pl.scoring.shared import SharedState

_TRIES = 2  # what kills its worker once may have been somebody's mistake; twice, and it is the architecture


def make_rows(
    settings: ScoreSettings,
    columns: Sequence[str],
    keys: Sequence[Key],
    folder: ScoreFolder,
    processes: int,
    progress: bool,
) -> None:
    """Score ``keys`` into journals of ``folder``.

    When a worker dies, as one that the system kills for its memory does, the others go on with what is left. A row
    that two workers died of becomes a failed one.

    Raises:
        Stopped: on SIGINT, SIGTERM and SIGUSR1.
        CommandFailed: if a worker dies for another reason than a row.
    """
    module = ScoringModule.of(settings)
    deaths: Counter[Key] = Counter()
    pending = list(keys)
    while pending:
        count = min(processes, len(pending))
        state = SharedState(pending, count, start_method(settings.device))
        callbacks = [ScoreWriter(folder.journals, columns, state), *([ScoreProgress(state)] if progress else [])]
        try:
            predict(module, pending, callbacks, settings.device, count)
            return
        except WorkerDied as death:
            rows = folder.read_rows()
            key = state.working_on(death.process)
            if key is None:
                raise CommandFailed(f"a worker died: {death}. The rows made so far are kept; run it again") from death
            print(f"\na worker died while scoring {key[0]} (seed {key[1]}): {death}", file=sys.stderr)
            if key not in rows:
                deaths[key] += 1
            if deaths[key] == _TRIES:
                _give_up(folder, columns, key, str(death))
            pending = [other for other in pending if other not in rows and deaths[other] < _TRIES]


def _give_up(folder: ScoreFolder, columns: Sequence[str], key: Key, reason: str) -> None:
    journal = Journal(folder.journals, 0, columns)
    reason = f"its worker died {_TRIES} times, perhaps for lack of memory: {reason}"
    journal.append(ScoreRow(*key, dict.fromkeys(columns), FAILED, reason))
    journal.close()

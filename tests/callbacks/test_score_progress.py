import io

import pytest

from vkdnw_pl.callbacks.score_progress import ScoreProgress
from vkdnw_pl.scoring.shared import SharedState


class Screen(io.StringIO):
    def isatty(self):
        return True


class First:
    is_global_zero = True


class Second:
    is_global_zero = False


def play(file, total, failed=(), processes=1, trainer=First):
    keys = [(f"arch{i}", 1) for i in range(total)]
    state = SharedState(keys, processes, "spawn")
    progress = ScoreProgress(state, file)
    progress.on_predict_start(trainer, None)
    for i, key in enumerate(keys):
        state.begin(i % processes, key)
        assert state.working_on(i % processes) == key
        state.end(i % processes, failed=i in failed)
        assert state.working_on(i % processes) is None
        progress.on_predict_batch_end(trainer, None)
    progress.on_predict_end(trainer, None)


@pytest.mark.parametrize("processes", [1, 2])
def test_lines_now_and_then_where_there_is_no_terminal(processes):
    file = io.StringIO()
    play(file, 250, failed=(3, 4), processes=processes)
    lines = file.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("25 of 250 rows, 2 failed in ")
    assert lines[0].endswith(" left")
    assert lines[-1].startswith("250 of 250 rows, 2 failed in ")
    assert not lines[-1].endswith(" left")


def test_few_rows():
    file = io.StringIO()
    play(file, 3)
    assert [line.split(" in ")[0] for line in file.getvalue().splitlines()] == [f"{i} of 3 rows" for i in (1, 2, 3)]


def test_bar_on_a_terminal():
    file = Screen()
    play(file, 20, failed=(3,))
    assert "20/20" in file.getvalue()
    assert "failed=1" in file.getvalue()


def test_only_the_first_process_reports():
    file = io.StringIO()
    play(file, 20, trainer=Second)
    assert file.getvalue() == ""

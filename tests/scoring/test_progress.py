import io
import time

import pytest

from vkdnw_pl.scoring import progress as module
from vkdnw_pl.scoring.progress import Progress


class Screen(io.StringIO):
    def isatty(self):
        return True


def play(file, total, failed=(), done=0, **options):
    with Progress(total, done, file=file, **options) as progress:
        for i in range(done, total):
            progress.add(i in failed)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("done", [0, 50])
def test_lines_now_and_then_where_there_is_no_terminal(done):
    lines = play(io.StringIO(), 250 + done, failed=(done + 3, done + 4), done=done)
    assert len(lines) == 10
    assert lines[0].startswith(f"{25 + done} of {250 + done} rows, 2 failed in 0.")
    assert "/s), about 0." in lines[0]
    assert lines[0].endswith(" left")
    assert lines[-1].startswith(f"{250 + done} of {250 + done} rows, 2 failed in ")
    assert not lines[-1].endswith(" left")


def test_few_rows():
    lines = play(io.StringIO(), 3, unit="network")
    assert [line.split(" in ")[0] for line in lines] == [f"{i} of 3 networks" for i in (1, 2, 3)]


def test_bar_on_a_terminal():
    file = Screen()
    play(file, 20, failed=(0,))
    assert "20/20" in file.getvalue()
    assert "1 failed" in file.getvalue()


def test_nothing_is_shown_where_nothing_is_to_be():
    assert play(Screen(), 20, shown=False) == []


def test_what_takes_long_is_named(monkeypatch):
    file = io.StringIO()
    with Progress(10, file=file) as progress:
        now = time.monotonic()
        monkeypatch.setattr(module.time, "monotonic", lambda: now + 59)
        progress.waiting([(("a", 1), 59.0)])
        assert file.getvalue() == ""
        monkeypatch.setattr(module.time, "monotonic", lambda: now + 61)
        in_progress = [((arch, 1), seconds) for arch, seconds in (("a", 30.0), ("b", 61.0), ("c", 20.0), ("d", 10.0))]
        progress.waiting(in_progress)
        progress.waiting(in_progress)  # said once
    (line,) = file.getvalue().splitlines()
    assert line == (
        "0 of 10 rows in 1 min 01 s (0/s); no row for 1 min 01 s; in progress: b (seed 1) for 1 min 01 s, a (seed 1) for "
        "30.0 s, c (seed 1) for 20.0 s and 1 more"
    )

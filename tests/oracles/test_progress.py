import io

import pytest

from vkdnw_pl.oracles import progress
from vkdnw_pl.oracles.progress import Progress, megabytes


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock, monkeypatch, stream, seconds_per_step):
    monkeypatch.setattr(progress.sys, "stderr", stream)
    with Progress("reading", 4) as bar:
        for done in range(1, 5):
            clock[0] += seconds_per_step
            bar.update(done)
    return stream.getvalue()


def test_terminal_redraws_one_line(clock, monkeypatch):
    text = run(clock, monkeypatch, Terminal(), 1)
    assert text.count("\n") == 1
    assert text.startswith("\r\033[Kreading: 1/4 (25 %)\r")
    assert text.endswith("reading: 4/4 (100 %)\n")


def test_log_file_gets_few_lines(clock, monkeypatch):
    text = run(clock, monkeypatch, io.StringIO(), 6)
    assert text == "reading: 2/4 (50 %)\nreading: 4/4 (100 %)\nreading: 4/4 (100 %)\n"


def test_quick_work_is_one_line(clock, monkeypatch):
    assert run(clock, monkeypatch, io.StringIO(), 0.001) == "reading: 4/4 (100 %)\n"


def test_unknown_total(capsys):
    with Progress("file", None, megabytes) as bar:
        bar.update(1_234_567)
    assert capsys.readouterr().err == "file: 1.2 MB\n"

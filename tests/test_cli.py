import inspect
import subprocess
import sys
import time
from dataclasses import MISSING

import pytest

import vkdnw_pl.commands.score
from vkdnw_pl import cli
from vkdnw_pl.cluster.options import TRAINING
from vkdnw_pl.errors import CommandFailed, UsageError
from vkdnw_pl.option_parser import CommandParser
from vkdnw_pl.scoring.plan import ScoreOptions

OWN = [name for name in cli.COMMANDS if name not in TRAINING]


def call(capsys, *arguments):
    code = cli.main(list(arguments))
    return code, *capsys.readouterr()


def test_help_lists_all_commands(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for name, summary in cli.COMMANDS.items():
        assert f"  {name}" in out
        assert summary in out


def test_without_a_command_the_help_and_an_error(capsys):
    code, out, _ = call(capsys)
    assert code == 2
    assert "usage:" in out


def test_summaries_are_the_first_lines_of_the_docstrings():
    for name in OWN:
        summary = cli.COMMANDS[name]
        assert (inspect.getdoc(cli.load_command(name)) or "").splitlines()[0] == summary


def test_every_option_is_explained(capsys):
    for name in OWN:
        code, out, _ = call(capsys, name, "--help")
        assert code == 0
        for option in CommandParser(cli.load_command(name), "").options:
            assert option.help, f"{name}: {option.name}"
            assert option.default is MISSING or option.by_place or f"--{option.name}" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["scor"], "command 'scor' is not known; did you mean 'score'?"),
        (
            ["frobnicate"],
            "command 'frobnicate' is not known; known: " + ", ".join(cli.COMMANDS),
        ),
        (["--versoin"], "option '--versoin' is not known; did you mean '--version'?"),
        (["score", "--batchsize", "3"], "option '--batchsize' is not known; did you mean '--batch_size'?"),
        (["score", "--archs", "nowhere"], "archs='nowhere' is not allowed"),
        (["evaluate", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["download", "nb201", "--base_url", "ftp://nowhere"], "it must begin with http:// or https://"),
        (["merge", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_exit_code_2(capsys, arguments, text):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    line, hint = err.splitlines()
    assert text in line
    assert hint.startswith("see python -m vkdnw_pl")
    assert hint.endswith("--help")


def test_print_config_is_a_config(capsys, tmp_path):
    code, out, _ = call(capsys, "score", "--seeds", "1..3", "--print_config")
    assert code == 0
    assert "seeds: 1..3" in out


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("not so"), 2, "python -m vkdnw_pl score: error: not so"),
        (CommandFailed("not now"), 1, "python -m vkdnw_pl score: not now"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(capsys, monkeypatch, error, code, text):
    def score(options: ScoreOptions) -> int:
        """Fail."""
        raise error

    monkeypatch.setattr(vkdnw_pl.commands.score, "score", score)
    found, _, err = call(capsys, "score")
    assert found == code
    assert text in err


def test_our_own_faults_keep_their_traceback(monkeypatch):
    def score(options: ScoreOptions) -> int:
        """Fail."""
        raise ValueError("a bug")

    monkeypatch.setattr(vkdnw_pl.commands.score, "score", score)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["score"])


def test_as_a_program():
    """Exit code and time of the module itself; the limit is that of the slowest machine."""
    started_at = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "vkdnw_pl", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: python -m vkdnw_pl COMMAND" in done.stdout
    assert time.monotonic() - started_at < 2
    done = subprocess.run([sys.executable, "-m", "vkdnw_pl", "scor"], capture_output=True, text=True)
    assert done.returncode == 2
    done = subprocess.run([sys.executable, "-m", "vkdnw_pl", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("vkdnw_pl ")


def test_help_of_commands_imports_no_torch():
    code = (
        "import sys; from vkdnw_pl import cli\n"
        "assert all(cli.main([name, '--help']) == 0 for name in cli.COMMANDS)\n"
        "heavy = ('torch', 'pytorch_lightning', 'matplotlib', 'scipy')\n"
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

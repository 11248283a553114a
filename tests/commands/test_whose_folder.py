"""No command continues, mixes with or clears what another made, and none leaves what it should take away."""

import json
import os
from pathlib import Path

import pytest
from small_runs import merge, run

from vkdnw_pl import cli
from vkdnw_pl.commands import merge as merge_module
from vkdnw_pl.runs.folder import FolderBusy, RunFolder

SEARCH = (
    *("search", "--space", "nb201", "--ranking", "macs", "--evaluations", "8", "--batch", "4", "--device", "cpu"),
    *("--progress", "false"),
)
SCORE = (
    *("score", "--network", "{channels: 4, cells: 1, image_size: 8}", "--archs", "sample:3", "--proxies", "[macs]"),
    *("--batch_size", "4", "--oracle", "digits", "--device", "cpu", "--workers", "1", "--progress", "false"),
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def search_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    assert cli.main([*SEARCH, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def training_folder(tmp_path):
    """As `fit` leaves it."""
    folder = tmp_path / "training"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    (folder / "config.yaml").write_text("model: {}\n")
    (folder / "scores.csv").write_text("arch,seed,macs\n")
    (folder / "meta.json").write_text(json.dumps({"command": "fit", "settings": {"seed": 1}}))
    return folder


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_score_into_another_commands_folder_is_refused_and_deletes_nothing(
    search_folder, training_folder, capsys, more
):
    for folder, noun in ((search_folder, "a search"), (training_folder, "a training")):
        before = contents(folder)
        capsys.readouterr()
        assert cli.main([*SCORE, "--out", str(folder), *more]) == 2
        error = capsys.readouterr().err
        assert f"{folder} holds {noun}, not a scoring: choose another folder with --out" in error
        assert "there:" not in error
        assert contents(folder) == before


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_search_into_another_commands_folder_is_refused_and_deletes_nothing(tmp_path, training_folder, capsys, more):
    scoring = tmp_path / "scoring"
    run(scoring, archs="sample:3", proxies=["macs"])
    for folder, noun in ((scoring, "a scoring"), (training_folder, "a training")):
        before = contents(folder)
        capsys.readouterr()
        assert cli.main([*SEARCH, "--out", str(folder), *more]) == 2
        assert f"{folder} holds {noun}, not a search: choose another folder with --out" in capsys.readouterr().err
        assert contents(folder) == before


def test_merge_into_another_commands_folder_is_refused(tmp_path, training_folder, capsys):
    run(tmp_path / "shard", archs="sample:3", proxies=["macs"], shard="0/1")
    before = contents(training_folder)
    assert cli.main(["merge", str(tmp_path / "shard"), "--out", str(training_folder)]) == 2
    assert "holds a training, not a scoring" in capsys.readouterr().err
    assert contents(training_folder) == before


def test_a_search_that_is_overwritten_leaves_no_old_figures(tmp_path):
    folder = tmp_path / "run"
    assert cli.main([*SEARCH, "--out", str(folder)]) == 0
    figures = [path for path in (folder / "figures").iterdir() if path.suffix == ".png"]
    assert figures
    (folder / "figures" / "mine.png").write_bytes(b"kept")
    assert cli.main([*SEARCH, "--out", str(folder), "--seed", "3", "--figures", "false", "--overwrite"]) == 0
    assert [path.name for path in (folder / "figures").iterdir()] == ["mine.png"]


def test_merge_holds_the_folder_until_all_is_written(tmp_path, monkeypatch):
    run(tmp_path / "shard", archs="sample:3", proxies=["macs"], shard="0/1")
    write_results = merge_module.write_results
    busy = []

    def write(folder, *arguments):
        try:
            with RunFolder(folder.path).lock(0.0):
                pass
        except FolderBusy:
            busy.append(folder.path)
        return write_results(folder, *arguments)

    monkeypatch.setattr(merge_module, "write_results", write)
    assert merge([tmp_path / "shard"], tmp_path / "merged") == 0
    assert busy == [tmp_path / "merged"]


@pytest.mark.parametrize("command", [SCORE, SEARCH])
def test_what_a_killed_process_left_half_written_goes(tmp_path, command):
    folder = tmp_path / "run"
    folder.mkdir()
    draft = folder / f".scores.{os.getpid()}.tmp.csv"
    draft.write_text("arch,se")
    assert cli.main([*command, "--out", str(folder)]) == 0
    assert not draft.exists()


def test_a_file_in_the_way_is_named(tmp_path, capsys):
    (tmp_path / "run").write_text("")
    assert cli.main([*SCORE, "--out", str(tmp_path / "run")]) == 2
    message = f"out='{tmp_path / 'run'}' is not allowed: {tmp_path / 'run'} is a file"
    assert message in capsys.readouterr().err
    (tmp_path / "scores.csv").write_text('arch,good\n"index:1,1,1,1,1,1",3\n')
    assert cli.main(["evaluate", str(tmp_path / "scores.csv"), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert cli.main(["download", "nb201", "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == ""

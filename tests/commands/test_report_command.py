import json
import os
import threading

import pytest
import torch
import yaml

from vkdnw_pl import cli
from vkdnw_pl.oracles import load_oracle


def call(capsys, *arguments):
    code = cli.main(["report", *map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs that the commands themselves have made: one of score, and its evaluation by another ranking."""
    folder = tmp_path_factory.mktemp("runs")
    archs = folder / "archs.txt"
    archs.write_text("".join(f"{arch}\n" for arch in load_oracle("digits").archs[:8]))
    common = ["--archs", str(archs), "--proxies", "[macs, aleph]", "--progress", "false", "--workers", "1"]
    threads = torch.get_num_threads()
    assert cli.main(["score", *common, "--oracle", "digits", "--out", str(folder / "one")]) == 0
    assert cli.main(["score", *common, "--batch_size", "4", "--oracle", "digits", "--out", str(folder / "two")]) == 0
    torch.set_num_threads(threads)
    return folder


def test_a_page_of_genuine_runs(folders, tmp_path, capsys):
    code, out, err = call(
        capsys, folders / "one", folders / "two", "--out", tmp_path / "page.html", "--title", "Mine & yours"
    )
    assert (code, out) == (0, "")
    assert f"report of 2 runs in {tmp_path / 'page.html'}" in err
    page = (tmp_path / "page.html").read_text()
    assert "<title>Mine &amp; yours</title>" in page
    for part in ("Summary", "Rankings against known accuracies", "Configuration", "Environment", "aleph", "batch_size"):
        assert part in page
    assert "The paper’s values" not in page  # which has no digits
    assert "http://" not in page
    assert "https://" not in page


def test_the_numbers_are_those_of_the_run(folders, tmp_path, capsys):
    code, out, _ = call(capsys, folders / "one", "--markdown", "-")
    assert code == 0
    metrics = (folders / "one" / "metrics.csv").read_text().splitlines()
    head, *rows = (line.split(",") for line in metrics)
    for row in rows:
        row = dict(zip(head, row))
        line = next(line for line in out.splitlines() if line.startswith(f"| `{row['ranking']}`"))
        assert f"{float(row['kendall']):.3f}" in line
        assert f"{float(row['ndcg']):.3f}" in line
    assert not (tmp_path / "report.html").exists()


def test_a_folder_stands_for_the_runs_in_it(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, folders, folders / "one")
    assert code == 0
    assert f"2 run folders in {folders}" in err
    assert "1 folder named more than once" in err
    assert "report of 2 runs in report.html" in err
    again = (tmp_path / "report.html").read_bytes()
    assert call(capsys, folders)[0] == 0  # a page that is there is replaced
    assert b"Comparison of 2 runs" in again


def test_page_and_markdown_together(folders, tmp_path, capsys):
    page, text = tmp_path / "a.html", tmp_path / "a.md"
    assert call(capsys, folders / "one", "--out", page, "--markdown", text)[0] == 0
    assert text.read_text().startswith("## Run one\n")
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], "is not a run folder"),
        (["RUN", "--out", "."], "out='.' is not allowed: it is a folder"),
        (["RUN", "--out", "no/where.html"], "there is no folder no"),
        (["RUN", "--markdown", "."], "markdown='.' is not allowed: it is a folder"),
        (["RUN", "--out", "x", "--markdown", "./x"], "out and markdown are both './x': name two files"),
        (["RUN", "--push"], "push has no use without wandb_project"),
        (["RUN", "--wandb_entity", "me"], "wandb_entity has no use without wandb_project"),
        (["RUN", "--wandb_spec", "x.json"], "wandb_spec has no use without wandb_project"),
        (["RUN", "--titel", "x"], "option '--titel' is not known; did you mean '--title'?"),
    ],
)
def test_wrong_usage(folders, tmp_path, capsys, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *(folders / "one" if one == "RUN" else one for one in arguments))
    assert code == 2
    assert text in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--out", "--markdown", "--wandb_spec"])
def test_a_file_that_is_no_report_is_kept(folders, tmp_path, capsys, option):
    file = folders / "one" / "config.yaml"
    before = file.read_bytes()
    more = ["--wandb_project", "p"] if option == "--wandb_spec" else []
    code, _, err = call(capsys, folders / "one", option, file, *more)
    assert code == 2
    assert "this file was not written by report" in err
    assert file.read_bytes() == before


def test_reports_are_replaced(folders, tmp_path, capsys):
    page, text = tmp_path / "a.html", tmp_path / "a.md"
    (tmp_path / "to").mkdir()
    page.symlink_to(tmp_path / "to" / "page")
    text.touch()  # as of mktemp
    for _ in range(2):
        assert call(capsys, folders / "one", "--out", page, "--markdown", text)[0] == 0
    assert page.is_symlink()
    assert (tmp_path / "to" / "page").read_text().startswith("<!doctype html>")
    code, _, err = call(capsys, folders / "one", "--out", text)
    assert (code, "not written by report" in err) == (2, True)


def test_a_pipe_gets_the_text(folders, tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    assert call(capsys, folders / "one", "--markdown", pipe)[0] == 0
    reader.join(timeout=30)
    assert got[0].startswith("## Run one")
    assert pipe.is_fifo()


def test_a_damaged_file_is_named_and_nothing_is_written(folders, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("meta.json", "config.yaml"):
        (broken / name).write_text((folders / "one" / name).read_text())
    (broken / "metrics.csv").write_text("ranking\n")
    code, _, err = call(capsys, broken, "--out", tmp_path / "page.html")
    assert code == 2
    assert str(broken / "metrics.csv") in err
    assert not (tmp_path / "page.html").exists()


def test_a_run_that_has_only_begun(folders, tmp_path, capsys):
    begun = tmp_path / "begun"
    begun.mkdir()
    meta = json.loads((folders / "one" / "meta.json").read_text())
    meta |= {"runs": [{"started_at": "2026-01-02T03:04:05+00:00"}], "status": "running"}
    (begun / "meta.json").write_text(json.dumps(meta))
    (begun / "config.yaml").write_text(yaml.safe_dump({"space": "nb201"}))
    assert call(capsys, begun, "--out", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "it is running, or was killed" in page
    assert 'id="rankings"' not in page

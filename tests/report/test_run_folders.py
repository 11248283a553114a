"""Run folders are read as they are: whole, unfinished or damaged."""

import json
import math
import random

import pytest
import run_samples as samples
import yaml

from vkdnw_pl.callbacks import read_history
from vkdnw_pl.report.runs import read_run, read_runs, run_folders, unique_names
from vkdnw_pl.runs.table import read_table


def test_a_score_run(tmp_path):
    run = read_run(samples.score_run(tmp_path / "a", failures={5: "vkdnw: out of memory"}, seeds=2))
    assert (run.name, run.command, run.status, run.space, run.seconds) == ("a", "score", "finished", "nb201", 120.5)
    assert run.notes == ()
    assert run.environment["host"] == "laptop"
    scores = run.scores
    assert scores["arch"].tolist() == samples.archs(40)
    assert scores["seed"].tolist() == [1] * 40
    assert scores["aleph"].tolist() == list(range(40))
    assert math.isnan(scores["macs"][3])
    assert [(failure.arch, failure.seed, failure.reason) for failure in run.failures] == [
        (samples.archs(6)[5], 1, "vkdnw: out of memory")
    ]
    assert [row["ranking"] for row in run.metrics] == [name for name, *_ in samples.METRICS]
    assert run.metrics[0]["kendall_std"] == "0.0125"
    assert run.ranking["vkdnw_agg"].tolist() == list(range(1, 41))
    assert run.candidates == []
    assert run.wandb_id is None
    assert run.found is None


def test_scores_are_read_as_the_other_reader_reads_them(tmp_path):
    folder = samples.score_run(tmp_path / "a", failures={5: "x"})
    scores, table = read_run(folder).scores, read_table(folder / "scores.csv")
    assert list(scores) == ["arch", "seed", *table.columns, "status", "reason", "seconds"]
    for line, row in zip(scores.to_dict("records"), table.rows, strict=True):
        assert (line["arch"], line["seed"], line["status"], line["seconds"]) == (*row.key, row.status, row.seconds)
        assert line["reason"] == row.reason
        for name, value in row.values.items():
            assert line[name] == value or (value is None and math.isnan(line[name]))
    # A table of another program may have little more than the architectures.
    (folder / "scores.csv").write_text("arch,x\na,inf\nb,2\n")
    scores, table = read_run(folder).scores, read_table(folder / "scores.csv")
    assert scores["seed"].tolist() == [row.seed for row in table.rows] == [1, 1]
    assert math.isnan(scores["x"][0])
    assert table.rows[0].values["x"] is None
    assert set(scores["status"]) == {"ok"}


def test_numbers_are_read_to_the_bit(tmp_path):
    folder = samples.score_run(tmp_path / "a")
    values = [repr(random.Random(i).uniform(-1e-3, 1e3)) for i in range(500)]
    (folder / "scores.csv").write_text("arch,x,y\n" + "".join(f"a{i},{v},{v}\n" for i, v in enumerate(values)))
    scores = read_run(folder).scores
    assert scores["x"].tolist() == [float(value) for value in values]
    (folder / "scores.csv").write_text("arch,x,y\n" + "".join(f"a{i},{v},\n" for i, v in enumerate(values)))
    assert read_run(folder).scores["x"].tolist() == scores["x"].tolist()  # where the last cell is empty


def test_short_and_long_lines_are_damage(tmp_path):
    folder = samples.score_run(tmp_path / "a")
    for line, count in (("b,2", 2), ("b,2,3,4", 4)):
        (folder / "scores.csv").write_text(f"arch,x,y\na,1,2\n{line}\n")
        with pytest.raises(ValueError, match=f"line 3 has {count} cells, the first line has 3"):
            _ = read_run(folder).scores


def test_a_search_run(tmp_path):
    run = read_run(samples.search_run(tmp_path / "s", failing=True))
    assert (run.command, run.status, len(run.candidates)) == ("search", "finished", 30)
    assert run.found["macs"] == 5_000_000
    assert len(run.failures) == 3
    assert run.failures[0].seed is None
    assert run.metrics == []


def test_a_training(tmp_path):
    run = read_run(samples.fit_run(tmp_path / "f"))
    assert run.results == {"val/top1": 90.0, "test/top1": 89.0, "images_per_s": 1000.0}
    assert run.initial_proxies == {"vkdnw": 1.5, "vkdnw_decile_1": 0.1}
    (tmp_path / "f" / "wandb_id").write_text("abc123\n")
    assert run.wandb_id == "abc123"
    # Also with a line that a kill has torn: the reader that training itself has says the same.
    with (tmp_path / "f" / "history.jsonl").open("a") as file:
        file.write('{"step": 3, "ep')
    assert run.history == read_history(tmp_path / "f")


def test_results_of_evaluate_without_a_record(tmp_path):
    (tmp_path / "metrics.csv").write_text(samples.metrics_text(samples.METRICS))
    (tmp_path / "ranking.csv").write_text("arch,aleph\na,1.0\n")
    run = read_run(tmp_path)
    assert (run.command, run.status, dict(run.config)) == ("evaluate", "finished", {})


@pytest.mark.parametrize(
    ("runs", "status", "expected", "note"),
    [
        ([{"started_at": "2026-01-02T03:04:05+00:00"}], None, "running", "running, or was killed"),
        ([{"finished_at": "x", "stopped_by": "SIGTERM"}], None, "stopped", "stopped by SIGTERM before the end"),
        ([{"finished_at": "x", "stopped_by": None}], None, "finished", None),
        ([{"finished_at": "x", "stopped_by": None}], "failed", "failed", "ended with an error"),
        ([], "running", "running", "running, or was killed"),
        ([{"finished_at": "x", "rows_in_table": 7}], None, "finished", "7 of 40 rows are there"),
    ],
)
def test_how_a_run_ended(tmp_path, runs, status, expected, note):
    meta = {"runs": runs} | ({} if status is None else {"status": status})
    run = read_run(samples.score_run(tmp_path / "a", **meta))
    assert run.status == expected
    assert (run.notes == ()) if note is None else any(note in text for text in run.notes)


def test_a_merge_has_the_rows_of_all_its_shards(tmp_path):
    """Its attempts are those of the shards, which have a part of the rows each."""
    meta = {"runs": [{"finished_at": "x", "rows_in_table": 20}] * 2, "merged": [{"folder": "a"}, {"folder": "b"}]}
    assert read_run(samples.score_run(tmp_path / "whole", **meta, status="finished")).notes == ()
    part = samples.score_run(tmp_path / "part", **meta, status="stopped")
    lines = (part / "scores.csv").read_text().splitlines(keepends=True)
    (part / "scores.csv").write_text("".join(lines[:31]))
    assert read_run(part).notes == ("merged though rows are missing", "30 of 40 rows are there")


def test_rows_of_a_run_that_is_not_finished(tmp_path):
    folder = samples.score_run(tmp_path / "a", runs=[{"started_at": "x"}])
    whole = (folder / "scores.csv").read_text().splitlines(keepends=True)
    for name in ("scores.csv", "metrics.csv", "ranking.csv"):
        (folder / name).unlink()
    run = read_run(folder)
    assert run.scores is None
    assert run.metrics == []
    assert run.failures == []
    (folder / "rows").mkdir()
    (folder / "rows" / "0-0.csv").write_text("".join(whole[:8]) + whole[8][:20])
    assert read_run(folder).scores["arch"].tolist() == samples.archs(7)


def test_a_table_without_its_end(tmp_path):
    folder = samples.score_run(tmp_path / "a")
    for name in ("scores.csv", "metrics.csv", "ranking.csv"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[: len(text) - 9])
    run = read_run(folder)
    assert (len(run.scores), len(run.metrics), len(run.ranking)) == (39, 3, 39)


def test_shards_that_were_not_merged(tmp_path):
    out = tmp_path / "out"
    (out / "slurm").mkdir(parents=True)
    samples.write_json(out / "slurm" / "launch.json", {"command": "score", "tasks": 4})
    samples.score_run(out / "shards" / "0-of-4")
    samples.score_run(out / "shards" / "1-of-4", runs=[{"started_at": "x"}])
    run = read_run(out)
    assert run.status == "not merged"
    assert run.notes[0] == "launched, not merged: 2 of 4 shards have begun, 1 are finished"
    assert run_folders(out) == [out]


def test_trainings_of_an_array_are_runs(tmp_path):
    (tmp_path / "slurm").mkdir()
    samples.write_json(tmp_path / "slurm" / "launch.json", {"command": "fit", "tasks": 2})
    samples.fit_run(tmp_path / "rank-1")
    samples.fit_run(tmp_path / "rank-2")
    assert [folder.name for folder in run_folders(tmp_path)] == ["rank-1", "rank-2"]


def test_names_tell_folders_apart(tmp_path):
    paths = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "other"]
    assert unique_names(paths) == ["x/run", "y/run", "other"]
    for path in paths:
        samples.fit_run(path)
    runs = read_runs([*paths, paths[0] / ".." / "run"])
    assert [run.name for run in runs] == ["x/run", "y/run", "other"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("meta.json", "{", "meta.json is damaged: it is not JSON"),
        ("meta.json", "[1]", "meta.json is damaged: it must hold 'name: value' pairs"),
        ("meta.json", "[" * 100_000, "meta.json is damaged"),
        ("meta.json", '{"command": 3}', "meta.json is damaged: its command is 3"),
        ("meta.json", '{"command": "export"}', "is a run folder of 'export'; reports are made of those of score"),
        ("meta.json", '{"command": "score", "runs": 3}', "meta.json is damaged: 'runs' must be a list"),
        ("meta.json", '{"command": "score", "settings": "x"}', "meta.json is damaged: 'settings' must hold"),
        ("config.yaml", "a: [", "config.yaml, line 1 is damaged: it is not YAML"),
        (
            "config.yaml",
            "!!python/object/apply:os.system ['touch pwned']",
            "config.yaml, line 1 is damaged: it is not YAML",
        ),
        ("config.yaml", b"\xff\xfe", "config.yaml, line 1 is damaged: it is not UTF-8"),
    ],
)
def test_damaged_records(tmp_path, name, content, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = samples.score_run(tmp_path / "a")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"damaged|reports are made") as error:
        read_run(folder)
    assert text in str(error.value)
    assert str(folder) in str(error.value)
    assert not (tmp_path / "pwned").exists()


def test_a_small_file_that_stands_for_a_huge_one(tmp_path):
    folder = samples.score_run(tmp_path / "a")
    lines = [
        "a0: &a0 [x, x, x, x, x, x, x, x, x]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)),
    ]
    (folder / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"config.yaml, line \d+ is damaged: it stands for more than 200,000 values"):
        read_run(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"a": (same := [1, 2]), "b": same}))
    assert read_run(folder).config == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("name", "content", "what", "text"),
    [
        ("metrics.csv", "ranking,n\na,1\n", "metrics", "there is no column 'dataset'"),
        ("metrics.csv", "", "metrics", "its first line must name the columns"),
        (
            "metrics.csv",
            samples.metrics_text([("a", 0.1, 0.2, 0.3)]).replace("0.2", "x"),
            "metrics",
            "column 'spearman': 'x' is not a number",
        ),
        ("ranking.csv", "arch,a\nx\n", "ranking", "line 2 has 1 cells"),
        ("ranking.csv", "name,a\nx,1\n", "ranking", "there is no column 'arch'"),
        ("scores.csv", "arch,seed,a\nx,1,y\nz", "scores", "line 2, column 'a': 'y' is not a number"),
        ("scores.csv", "arch,status\nx,odd\n", "scores", "column 'status': 'odd' is not allowed"),
        ("scores.csv", "name\nx\n", "scores", "there is no column 'arch'"),
        ("scores.csv", b"arch,a\n\xff,1\n", "scores", "is not UTF-8"),
        ("results.json", "[]", "results", "must hold 'name: value' pairs"),
        ("history.jsonl", '{"a": 1}\n3\n{"b": 1}\n', "history", "line 2 is damaged"),
        ("found.json", "{]", "found", "it is not JSON"),
    ],
)
def test_damaged_results_name_the_file(tmp_path, name, content, what, text):
    folder = samples.score_run(tmp_path / "a")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=name) as error:
        getattr(read_run(folder), what)
    assert text in str(error.value)


def test_what_is_no_run_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "scores.csv").write_text("arch\n")
    (tmp_path / "paper").mkdir()
    for ending in ("csv", "html"):
        (tmp_path / "paper" / f"table1.{ending}").write_text("")
    for name, text in {
        "nowhere": "does not exist",
        "empty": "no folder directly below it has one",
        "file": "is a file",
        "paper": "a page of its own",
        "half": "it has scores.csv, but no meta.json",
    }.items():
        with pytest.raises(ValueError, match=name) as error:
            run_folders(tmp_path / name)
        assert text in str(error.value)
        with pytest.raises(ValueError, match=name):
            read_run(tmp_path / name)


def test_a_folder_of_run_folders(tmp_path):
    for name in ("b", "a"):
        samples.fit_run(tmp_path / name)
    (tmp_path / "c").mkdir()
    assert [folder.name for folder in run_folders(tmp_path)] == ["a", "b"]


def test_nothing_is_written(tmp_path):
    folder = samples.score_run(tmp_path / "a")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run = read_run(folder)
    json.dumps([run.metrics, len(run.scores), len(run.ranking)])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

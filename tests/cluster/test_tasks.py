import json
import os

import pytest

from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder, Task, launches_of
from vkdnw_pl.cluster.slurm import JobState
from vkdnw_pl.cluster.tasks import task_states

ROWS = 3


@pytest.fixture
def folder(tmp_path):
    return LaunchFolder(tmp_path / "out")


def launch(jobs=("5",), count=2):
    return Launch(
        command="score",
        out="out",
        script="score_array.sbatch",
        tasks=[Task(f"{i}-of-{count}", f"shards/{i}-of-{count}", i, ROWS) for i in range(count)],
        merge=[],
        jobs=[Job(job, "array", "", "0-1", [f"{i}-of-{count}" for i in range(count)], [], "") for job in jobs],
    )


def make_run(path, status, rows, **more):
    path.mkdir(parents=True, exist_ok=True)
    (path / "scores.csv").write_text("arch,seed\n" + "a,1\n" * rows)
    settings = {"archs": {"count": 6}, "seeds": [1]}
    meta = {"command": "score", "status": status, "settings": settings, "runs": [{"rows_failed": 0}], **more}
    (path / "meta.json").write_text(json.dumps(meta))


def write_marker(folder, task, **values):
    folder.markers.mkdir(parents=True, exist_ok=True)
    (folder.markers / task).write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def states_of(folder, known, **options):
    return [state.state for state in task_states(folder, launch(**options), known)]


def test_a_folder_that_says_so_and_holds_all_rows_is_finished(folder):
    make_run(folder.out / "shards/0-of-2", "finished", ROWS)
    make_run(folder.out / "shards/1-of-2", "finished", ROWS - 1)
    done = {("5", i): JobState("COMPLETED", exit_code=0) for i in range(2)}
    assert states_of(folder, done)[:2] == ["finished", "failed"]
    assert "exit code 0, but its run folder is not finished" in task_states(folder, launch(), done)[1].note


def test_slurm_alone_makes_nothing_finished(folder):
    assert states_of(folder, {("5", 0): JobState("COMPLETED", exit_code=0)})[:2] == ["failed", "lost"]


def test_what_waits_and_runs(folder):
    known = {
        ("5", 0): JobState("PENDING", "BeginTime", "2026-01-01T10:00:00", restarts=1),
        ("5", 1): JobState("RUNNING", run_time="00:01:00", node="n1"),
    }
    make_run(folder.out / "shards/0-of-2", "stopped", 1)
    first, second, merge = task_states(folder, launch(), known)
    assert (first.state, first.note, first.restarts, first.done) == ("waiting", "BeginTime 2026-01-01T10:00:00", 1, 1)
    assert (second.state, second.note) == ("running", "00:01:00 on n1")
    assert merge.state == "missing"


def test_a_job_that_will_never_begin_has_failed(folder):
    known = {
        ("5", i): JobState("PENDING", reason) for i, reason in enumerate(["DependencyNeverSatisfied", "JobHeldUser"])
    }
    first, second, _ = task_states(folder, launch(), known)
    assert (first.state, first.in_queue) == ("failed", True)
    assert "it will never begin" in first.note
    assert (second.state, second.note) == ("waiting", "JobHeldUser (until scontrol release)")


def test_what_slurm_has_forgotten_is_known_from_the_marker(folder):
    write_marker(folder, "0-of-2", job="5_0", exit_code=137, restarts=2)
    write_marker(folder, "1-of-2", job="5_1", node="n1", began_at="now")
    first, second, _ = task_states(folder, launch(), {})
    assert (first.state, first.exit_code, first.restarts) == ("failed", 137, 2)
    assert (second.state, second.exit_code) == ("lost", None)
    assert "began on n1 at now and left no end" in second.note


def test_a_marker_of_an_earlier_job_counts_for_nothing(folder):
    write_marker(folder, "0-of-2", job="4_0", exit_code=1)
    assert task_states(folder, launch(("4", "5")), {})[0].note.startswith("job 5 left no trace")


def test_while_slurm_does_not_answer_nothing_is_lost(folder):
    make_run(folder.out / "shards/0-of-2", "finished", ROWS)
    assert states_of(folder, None)[:2] == ["finished", "unknown"]


def test_the_log_tells_why(folder):
    folder.logs.mkdir(parents=True)
    (folder.logs / "5_0.log").write_text(
        "wrong: no such file\nsee python -m vkdnw_pl score --help\nsrun: error: n1: task 0: Exited with exit code 2\n\n"
    )
    state = task_states(folder, launch(), {("5", 0): JobState("FAILED", exit_code=2)})[0]
    assert state.note == "FAILED: wrong: no such file"


def test_a_join_that_is_older_than_a_part_is_not_finished(folder):
    for i in range(2):
        make_run(folder.out / f"shards/{i}-of-2", "finished", ROWS)
    make_run(folder.out, "finished", 2 * ROWS, merged=[])
    assert states_of(folder, {}) == ["finished"] * 3
    os.utime(folder.out / "meta.json", (1, 1))
    assert states_of(folder, {})[2] == "missing"


def test_a_launch_reads_back_as_it_was_written(folder):
    folder.write(launch())
    assert folder.read() == launch()
    assert launches_of(str(folder.out)) == {"score": launch()}
    folder.record.write_text("{}")
    with pytest.raises(ValueError, match=r"launch\.json is damaged"):
        folder.read()


def test_a_record_of_an_earlier_version_is_read_and_keeps_its_form(folder):
    task = {"name": "0-of-1", "folder": "shards/0-of-1", "index": 0, "rows": 3, "until": None, "meta": True}
    job = {
        **{"id": "5", "kind": "array", "script": "score_array.sbatch", "array": "0", "tasks": ["0-of-1"]},
        **{"command": ["sbatch", "--parsable"], "submitted_at": "2026-01-01T00:00:00+00:00"},
    }
    record = {
        **{"format": 1, "command": "score", "out": "out", "arguments": ["--seeds", "1"], "directory": "/"},
        **{"script": "score_array.sbatch", "script_arguments": ["--shards", "1"], "resources": ["--mem=1G"]},
        **{"place": ["--partition=p"], "tasks": [task], "job_name": "x", "settings": {"seeds": [1]}, "merge": []},
        **{"at_once": 2, "dependency": None, "group": None, "jobs": [job]},
    }
    folder.path.mkdir(parents=True)
    folder.record.write_text(json.dumps(record))
    earlier = folder.read()
    assert earlier.merge_resources == ["--partition=p"]
    assert [state.state for state in task_states(folder, earlier, {})] == ["lost", "missing"]
    folder.write(earlier)
    assert json.loads(folder.record.read_text()) == record


def test_scripts_called_by_hand_are_found_by_their_markers(folder):
    with pytest.raises(ValueError, match="nothing was launched into"):
        launches_of(str(folder.out))
    make_run(folder.out / "shards/1-of-2", "finished", ROWS)
    write_marker(folder, "1-of-2", job="5_1", exit_code=0)
    found = launches_of(str(folder.out))["score"]
    assert [(task.name, task.rows) for task in found.tasks] == [("0-of-2", 3), ("1-of-2", 3)]
    assert [state.state for state in task_states(folder, found, {})] == ["lost", "finished"]
    queue = {("5", 0): JobState("PENDING", "Resources")}
    assert [state.state for state in task_states(folder, found, queue)] == ["waiting", "finished"]

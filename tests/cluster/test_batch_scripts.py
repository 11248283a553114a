"""The scripts of `slurm/`, run by bash with commands of SLURM that only note what they are told."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "slurm"
NAMES = sorted(path.name for path in SCRIPTS.glob("*.sbatch"))


class FakeSlurm:
    """Runs scripts as jobs of a SLURM that is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "a job", folder / "bin"
        self.folder.mkdir()
        self.bin.mkdir()
        self.command("srun", 'printf "%s\\n" "$@" "" >>srun.log; exit $(cat code 2>/dev/null || echo 0)')
        self.command("scontrol", 'echo "$@" >>scontrol.log')

    def command(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (self.bin / name).chmod(0o755)

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "VKDNW"))}
        spool = self.folder.parent / "slurm_script"  # Slurm runs a copy
        spool.write_bytes((SCRIPTS / script).read_bytes())
        own = {"PATH": f"{self.bin}:{os.environ['PATH']}", "VKDNW_SLURM_DIR": str(SCRIPTS), "SLURM_JOB_ID": "42"}
        return subprocess.run(
            ["bash", str(spool), *arguments],
            cwd=self.folder,
            env={**kept, **own, **environment},
            capture_output=True,
            text=True,
        )

    def steps(self) -> list[list[str]]:
        """Arguments of each call of srun."""
        text = (self.folder / "srun.log").read_text()
        return [step.splitlines() for step in text.split("\n\n") if step]

    def mark(self, task: str) -> dict[str, str]:
        lines = (self.folder / "runs/x/slurm/marks" / task).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


ARRAY = {
    "SLURM_ARRAY_JOB_ID": "40",
    "SLURM_ARRAY_TASK_MIN": "0",
    "SLURM_ARRAY_TASK_MAX": "7",
    "SLURM_ARRAY_TASK_COUNT": "8",
}


@pytest.fixture
def job(tmp_path):
    return FakeSlurm(tmp_path)


def after_program(step: list[str]) -> list[str]:
    """Arguments of vkdnw_pl."""
    return step[step.index("vkdnw_pl") + 1 :]


def test_each_script_stands_on_its_own():
    assert NAMES
    for name in NAMES:
        text = (SCRIPTS / name).read_text()
        for option in ("--requeue", "--open-mode=append", "--signal=USR1@120", "--output="):
            assert f"#SBATCH {option}" in text, (name, option)
        assert subprocess.run(["bash", "-n", str(SCRIPTS / name)]).returncode == 0


def test_a_task_scores_its_shard(job):
    done = job.run(
        "score_array.sbatch",
        "--archs",
        "sample:9",
        "--network",
        "{cells: 1}",
        "--out",
        "runs/x",
        **ARRAY,
        SLURM_ARRAY_TASK_ID="3",
    )
    assert done.returncode == 0, done.stderr
    (step,) = job.steps()
    assert step[:2] == ["--nodes=1", "--ntasks=1"]
    assert after_program(step) == [
        *("score", "--archs", "sample:9", "--network", "{cells: 1}"),
        *("--shard", "3/8", "--out", "runs/x/shards/3-of-8"),
    ]
    mark = job.mark("3-of-8")
    assert (mark["job"], mark["exit_code"], mark["restarts"]) == ("40_3", "0", "0")


def test_a_part_of_an_array_needs_the_number_of_shards(job):
    part = {**ARRAY, "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_MAX": "5", "SLURM_ARRAY_TASK_COUNT": "2"}
    done = job.run("score_array.sbatch", "--out", "runs/x", **part, SLURM_ARRAY_TASK_ID="5")
    assert done.returncode == 2
    assert "say with --shards how many parts there are in all" in done.stderr
    assert job.run("score_array.sbatch", "--shards=8", "--out=runs/x", **part, SLURM_ARRAY_TASK_ID="5").returncode == 0
    assert after_program(job.steps()[0]) == ["score", "--shard", "5/8", "--out", "runs/x/shards/5-of-8"]


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "text"),
    [
        ("score_array.sbatch", ["--out", "runs/x"], {}, "no array: submit it with sbatch --array=0-7"),
        ("score_array.sbatch", [], {**ARRAY, "SLURM_ARRAY_TASK_ID": "0"}, "--out is missing"),
        ("score_array.sbatch", ["--out"], {**ARRAY, "SLURM_ARRAY_TASK_ID": "0"}, "--out needs a value"),
        (
            "score_array.sbatch",
            ["--out", "runs/x", "--shards", "4"],
            {**ARRAY, "SLURM_ARRAY_TASK_ID": "5"},
            "there is no part 5 of 4",
        ),
        (
            "score_array.sbatch",
            ["--out", "runs/x", "--shard", "0/2"],
            {**ARRAY, "SLURM_ARRAY_TASK_ID": "0"},
            "--shard 0/2 is not for you to give",
        ),
        ("merge.sbatch", [], {}, "--out is missing"),
        ("search.sbatch", [], {}, "--out is missing"),
        ("search.sbatch", ["--out", "runs/x", "--nodes", "2"], {}, "--nodes 2, but the job has 1"),
        ("command.sbatch", ["--out", "runs/x"], {}, "the command is missing"),
        ("command.sbatch", ["score"], {}, "--out is missing"),
        ("score_array.sbatch", ["--out", "x"], {"VKDNW_SLURM_DIR": "/nowhere"}, "there is no /nowhere/common.sh"),
        (
            "search.sbatch",
            ["--out", "runs/x"],
            {"VKDNW_VENV": "/nowhere"},
            "VKDNW_VENV='/nowhere' is no virtual environment",
        ),
        ("search.sbatch", ["--out", "runs/x"], {"VKDNW_SITE_ENV": "/nowhere"}, "VKDNW_SITE_ENV='/nowhere'"),
    ],
)
def test_wrong_use_is_a_clear_error(job, script, arguments, environment, text):
    done = job.run(script, *arguments, **environment)
    assert done.returncode == 2
    assert text in done.stderr
    assert not (job.folder / "srun.log").exists()


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (138, True), (143, False), (137, False)])
def test_only_sigusr1_puts_a_job_back_into_the_queue(job, code, requeued):
    (job.folder / "code").write_text(str(code))
    assert job.run("search.sbatch", "--out", "runs/x").returncode == code
    assert job.mark("search")["exit_code"] == str(code)
    assert (job.folder / "scontrol.log").exists() == requeued
    if requeued:
        assert (job.folder / "scontrol.log").read_text() == "requeue 42\n"


def test_a_job_is_not_put_back_for_ever(job):
    (job.folder / "code").write_text("138")
    done = job.run("search.sbatch", "--out", "runs/x", SLURM_RESTART_COUNT="5", VKDNW_MAX_RESTARTS="5")
    assert done.returncode == 138
    assert "not put back into the queue" in done.stderr
    assert not (job.folder / "scontrol.log").exists()


def test_a_restart_does_not_overwrite_what_is_there(job):
    arguments = ("--overwrite", "true", "--seed", "2", "--overwrite", "--overwrite=true", "--out", "runs/x")
    job.run("search.sbatch", *arguments)
    job.run("search.sbatch", *arguments, SLURM_RESTART_COUNT="1")
    first, second = map(after_program, job.steps())
    assert first == ["search", *arguments]
    assert second == ["search", "--seed", "2", "--out", "runs/x"]


def test_a_search_on_several_machines(job):
    job.run("search.sbatch", "--seed", "2", "--out", "runs/x", SLURM_JOB_NUM_NODES="2", SLURM_NTASKS_PER_NODE="4")
    (step,) = job.steps()
    assert step[:4] == ["--nodes=2", "--ntasks=8", "--ntasks-per-node=4", "--kill-on-bad-exit=1"]
    assert after_program(step) == ["search", "--seed", "2", "--nodes", "2", "--workers", "4", "--out", "runs/x"]


def make_parts(job, places, count):
    for place in places:
        part = job.folder / f"runs/x/shards/{place}-of-{count}"
        part.mkdir(parents=True)
        (part / "meta.json").touch()


def test_merge_joins_all_parts_and_reports(job):
    make_parts(job, range(11), 11)
    (job.folder / "runs/x/scores.csv").touch()
    assert job.run("merge.sbatch", "--out", "runs/x").returncode == 0
    merge, report = map(after_program, job.steps())
    assert merge == ["merge", *(f"runs/x/shards/{i}-of-11" for i in range(11)), "--out", "runs/x"]
    assert report == ["report", "runs/x", "--out", "runs/x/report.html"]


def test_missing_parts_are_named(job):
    make_parts(job, (0, 2), 4)
    done = job.run("merge.sbatch", "--out", "runs/x")
    assert done.returncode == 1
    assert "missing parts of 4 in runs/x/shards: 1 3" in done.stderr
    assert not (job.folder / "srun.log").exists()
    assert job.mark("merge")["exit_code"] == "1"
    job.run("merge.sbatch", "--out", "runs/x", "--allow_missing", "true")
    assert after_program(job.steps()[0])[:3] == ["merge", "runs/x/shards/0-of-4", "runs/x/shards/2-of-4"]


def test_parts_of_two_cuts_are_not_mixed(job):
    make_parts(job, (0, 1), 2)
    make_parts(job, (0, 1, 2), 3)
    done = job.run("merge.sbatch", "--out", "runs/x")
    assert done.returncode == 2
    assert "holds parts of 2 3: say with --shards" in done.stderr
    job.run("merge.sbatch", "--out", "runs/x", "--shards", "3")
    assert after_program(job.steps()[0])[1:4] == [f"runs/x/shards/{i}-of-3" for i in range(3)]


def test_merge_tells_the_truth(job):
    make_parts(job, (0,), 1)
    (job.folder / "code").write_text("2")
    assert job.run("merge.sbatch", "--out", "runs/x").returncode == 2
    assert len(job.steps()) == 1, "no report of what was not joined"


def test_values_of_the_site_and_of_the_environment(job, tmp_path):
    site = tmp_path / "site.env"
    site.write_text(
        "VKDNW_PYTHON=python_of_site\nVKDNW_CONTAINER='box run \"a b\"'\nVKDNW_SETUP='export SEEN=yes'\nVKDNW_SRUN=--mpi=none\n"
    )
    job.command("srun", 'printf "%s\\n" "$@" "$SEEN" "" >>srun.log')
    job.run("search.sbatch", "--out", "runs/x", VKDNW_SITE_ENV=str(site))
    job.run("search.sbatch", "--out", "runs/x", VKDNW_SITE_ENV=str(site), VKDNW_PYTHON="mine")
    first, second = job.steps()
    assert first[2:9] == ["--mpi=none", "box", "run", "a b", "python_of_site", "-m", "vkdnw_pl"]
    assert first[-1] == "yes"
    assert second[6] == "mine"


def test_without_modules_the_name_is_said(job):
    done = job.run("search.sbatch", "--out", "runs/x", VKDNW_MODULES="cuda")
    assert done.returncode == 2
    assert "VKDNW_MODULES='cuda', but there is no command 'module'" in done.stderr


def test_the_site_file_as_it_is_shipped_says_nothing():
    lines = (SCRIPTS / "site.env").read_text().splitlines()
    assert all(not line or line.startswith("#") for line in lines)

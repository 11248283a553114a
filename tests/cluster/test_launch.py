"""`--launch` with commands of SLURM that only note what they are told."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from vkdnw_pl import cli
from vkdnw_pl.cluster import tasks

OPTIONS = (
    *("--archs", "sample:8", "--network", "{channels: 4, cells: 1, image_size: 8}", "--proxies", "[macs, aleph]"),
    *("--batch_size", "4", "--progress", "false", "--device", "cpu", "--workers", "2"),
)


class Cluster:
    """What the commands were told, and what they answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Each job gets the next number; scontrol knows what the test says.
        self.command("sbatch", 'printf "%s\\n" "$@" "" >>sbatch.log; env >sbatch.env; echo x >>ids; wc -l <ids')
        self.command("scancel", 'echo "$@" >>scancel.log')
        self.command("scontrol", 'cat "known/$4" 2>/dev/null || { echo "Invalid job id specified" >&2; exit 1; }')
        self.command("sacct", "exit 1")
        (folder / "known").mkdir()

    def command(self, name: str, text: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/bash\ncd {self.folder}\n{text}\n")
        file.chmod(0o755)

    def knows(self, job: int, *states: str) -> None:
        """States of the tasks of a job; of a job without array, one."""
        array = [f" ArrayJobId={job} ArrayTaskId={i}" if len(states) > 1 else "" for i in range(len(states))]
        lines = [f"JobId={job}{task} JobState={state} Restarts=0 ExitCode=1:0" for task, state in zip(array, states)]
        (self.folder / "known" / str(job)).write_text("\n".join(lines) + "\n")

    def calls(self) -> list[list[str]]:
        """Arguments of each call of sbatch."""
        if not (self.folder / "sbatch.log").is_file():
            return []
        return [call.splitlines() for call in (self.folder / "sbatch.log").read_text().split("\n\n") if call]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SBATCH_", "VKDNW_", "WANDB_")):
            monkeypatch.delenv(name)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    place = tmp_path / "a place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(tasks, "_FIRST_PAUSE_S", 0.01)
    return Cluster(folder)


def launch(*more, command=("score", *OPTIONS, "--out", "out")):
    return cli.main([*command, "--launch", "slurm", *more])


def finish(out, name, rows, failed=0):
    folder = Path(out) / "shards" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.csv").write_text("arch,seed\n" + "a,1\n" * rows)
    settings = json.loads(Path(out, "slurm/launch.json").read_text())["settings"]
    meta = {"command": "score", "status": "finished", "settings": settings, "runs": [{"rows_failed": failed}]}
    (folder / "meta.json").write_text(json.dumps(meta))


def test_an_array_and_the_job_that_joins_are_submitted(cluster, capsys):
    code = launch("--array", "3%2", "--time", "2h", "--partition", "p1", "--mem", "2G", "--job-name", "mine")
    assert code == 0
    array, merge = cluster.calls()
    out = Path("out").resolve()
    assert array == [
        *(
            "--parsable",
            "--job-name=mine",
            f"--output={out}/slurm/logs/%A_%a.log",
            f"--chdir={Path.cwd()}",
            "--array=0-2%2",
        ),
        *("--time=0-02:00:00", "--partition=p1", "--cpus-per-task=2", "--mem=2G", f"{out}/slurm/score_array.sbatch"),
        *("--config", "out/slurm/score.yaml", "--shards", "3", "--out", "out"),
    ]
    assert merge == [
        *("--parsable", "--job-name=mine-merge", f"--output={out}/slurm/logs/%j.log", f"--chdir={Path.cwd()}"),
        *("--partition=p1", "--dependency=afterany:1", f"{out}/slurm/merge.sbatch", "--shards", "3", "--out", "out"),
    ]
    record = json.loads(Path("out/slurm/launch.json").read_text())
    assert [(job["id"], job["kind"], job["array"]) for job in record["jobs"]] == [
        ("1", "array", "0-2%2"),
        ("2", "merge", None),
    ]
    assert [task["rows"] for task in record["tasks"]] == [3, 3, 2]
    options = yaml.safe_load(Path("out/slurm/score.yaml").read_text())
    assert options["batch_size"] == 4
    assert not {"out", "overwrite", "retry_failed", "shard"} & set(options)
    printed = capsys.readouterr().out
    assert "submitted job 1: array 0-2%2" in printed
    assert "python -m vkdnw_pl status out --wait" in printed


def run_job(cluster, call, index=None, fails=0):
    """Let bash run a submitted script; what it hands to srun is then done in this process, unless the step is to fail."""
    log = cluster.folder / "srun.log"
    cluster.command("srun", f'printf "%s\\n" "$@" "" >>srun.log; exit {fails}')
    log.unlink(missing_ok=True)
    script = next(i for i, argument in enumerate(call) if argument.endswith(".sbatch"))
    number = next(i for i, other in enumerate(cluster.calls(), start=1) if other == call)
    array = {} if index is None else {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(index)}
    environment = {**os.environ, "SLURM_JOB_ID": str(number), **array}
    process = subprocess.run(["bash", *call[script:]], env=environment, capture_output=True, text=True)
    assert process.returncode == fails, process.stderr
    steps = [step.splitlines() for step in log.read_text().split("\n\n") if step]
    return [cli.main(step[step.index("vkdnw_pl") + 1 :]) for step in steps if not fails]


def same_table(folder, other):
    tables = [Path(path, "scores.csv").read_text().splitlines() for path in (folder, other)]
    assert [line.rpartition(",")[0] for line in tables[0]] == [line.rpartition(",")[0] for line in tables[1]]
    for name in ("ranking.csv", "metrics.csv"):
        assert Path(folder, name).read_bytes() == Path(other, name).read_bytes()


def test_jobs_run_as_they_are_submitted_equal_one_process(cluster, capsys):
    options = ("score", *OPTIONS, "--workers", "1")
    assert cli.main([*options, "--out", "one"]) == 0
    assert launch("--array", "2", command=(*options, "--out", "out")) == 0
    array, merge = cluster.calls()
    assert run_job(cluster, array, 0) == [0]
    run_job(cluster, array, 1, fails=137)
    cluster.knows(2, "PENDING")
    capsys.readouterr()
    assert cli.main(["status", "out", "--json"]) == 1
    states = json.loads(capsys.readouterr().out)["tasks"]
    assert [(state["state"], state["exit_code"]) for state in states] == [
        ("finished", 0),
        ("failed", 137),
        ("waiting", None),
    ]
    assert cli.main(["status", "out", "--resubmit"]) == 1  # of the new job nothing is known here
    array, merge = cluster.calls()[2:]
    assert "--array=1" in array
    assert run_job(cluster, array, 1) == [0]
    (cluster.folder / "known/2").unlink()
    assert run_job(cluster, merge) == [0]
    assert run_job(cluster, merge) == [0, 0]  # now there is something to report
    same_table("one", "out")
    assert Path("out/report.html").is_file()
    capsys.readouterr()
    assert cli.main(["status", "out"]) == 0
    assert "3 finished; 8 of 8 rows" in capsys.readouterr().out
    assert launch("--array", "2", command=(*options, "--out", "out")) == 0
    assert "nothing to submit" in capsys.readouterr().out


def test_the_same_again_submits_what_failed_alone(cluster, capsys):
    assert launch("--array", "3") == 0
    finish("out", "0-of-3", 3)
    cluster.knows(1, "COMPLETED", "FAILED", "RUNNING")
    cluster.knows(2, "PENDING")
    capsys.readouterr()
    assert launch("--array", "3") == 0
    printed = capsys.readouterr().out
    assert "3 tasks: 1 finished, 1 in the queue or running, 1 to submit" in printed
    assert "cancelled job 2, which would have joined the parts too early" in printed
    assert (cluster.folder / "scancel.log").read_text() == "2\n"
    array, merge = cluster.calls()[2:]
    assert "--array=1" in array
    assert "--dependency=afterany:1:3" in merge

    cluster.knows(3, "RUNNING")
    (cluster.folder / "known/3").write_text(
        "JobId=3 ArrayJobId=3 ArrayTaskId=1 JobState=RUNNING Restarts=0 ExitCode=0:0\n"
    )
    cluster.knows(4, "PENDING")
    assert launch("--array", "3") == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert len(cluster.calls()) == 4


def test_failed_rows_are_scored_again_on_demand(cluster, capsys):
    launch("--array", "2")
    finish("out", "0-of-2", 4)
    finish("out", "1-of-2", 4, failed=1)
    cluster.knows(1, "COMPLETED", "FAILED")
    cluster.knows(2, "PENDING")
    assert cli.main(["status", "out"]) == 1
    assert "1 rows failed" in capsys.readouterr().out
    assert launch("--array", "2") == 0
    assert len(cluster.calls()) == 2
    assert launch("--array", "2", command=("score", *OPTIONS, "--out", "out", "--retry_failed")) == 0
    array = cluster.calls()[2]
    assert "--array=1" in array
    assert "--retry_failed" in array
    assert "retry_failed" not in Path("out/slurm/score.yaml").read_text()


def test_status_and_its_exit_codes(cluster, capsys):
    assert cli.main(["status", "out"]) == 2
    assert "nothing was launched into out" in capsys.readouterr().err
    launch("--array", "2")
    cluster.knows(1, "RUNNING", "PENDING")
    cluster.knows(2, "PENDING")
    assert cli.main(["status", "out"]) == 0
    assert "1 running, 2 waiting; 0 of 8 rows" in capsys.readouterr().out
    cluster.knows(1, "RUNNING", "OUT_OF_MEMORY")
    assert cli.main(["status", "out"]) == 1
    printed = capsys.readouterr().out
    assert "OUT_OF_MEMORY" in printed
    assert "python -m vkdnw_pl status out --resubmit" in printed
    assert cli.main(["status", "out", "--json"]) == 1
    assert [task["state"] for task in json.loads(capsys.readouterr().out)["tasks"]] == ["running", "failed", "waiting"]
    assert cli.main(["status", "out", "--resubmit"]) == 1  # of the new job nothing is known here
    assert "--array=1" in cluster.calls()[2]


def test_waiting_ends_when_all_have_ended(cluster, capsys, monkeypatch):
    launch("--array", "2")
    cluster.knows(1, "RUNNING", "PENDING")
    cluster.knows(2, "PENDING")
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        for i in range(2):
            finish("out", f"{i}-of-2", 4)
        cluster.knows(1, "COMPLETED", "COMPLETED")
        cluster.knows(2, "FAILED")

    monkeypatch.setattr(tasks, "sleep", sleep)
    assert cli.main(["status", "out", "--wait"]) == 1
    assert len(pauses) == 1
    assert "2 finished, 1 failed; 8 of 8 rows" in capsys.readouterr().out


def test_ctrl_c_leaves_the_jobs(cluster, capsys, monkeypatch):
    launch("--array", "2")
    cluster.knows(1, "RUNNING", "PENDING")
    cluster.knows(2, "PENDING")

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "sleep", interrupt)
    assert cli.main(["status", "out", "--wait"]) == 130
    assert "the jobs go on; follow them again with" in capsys.readouterr().err
    assert not (cluster.folder / "scancel.log").exists()


def test_a_dry_run_writes_and_submits_nothing(cluster, capsys):
    assert launch("--array", "2", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "#SBATCH --signal=USR1@120" in printed
    assert "sbatch --parsable" in printed
    assert "--dependency=afterany:JOB" in printed
    assert "batch_size: 4" in printed
    assert not Path("out").exists()
    assert cluster.calls() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["score", "--time", "2h"], "--time is an option of --launch; add --launch slurm"),
        (["merge", "x", "--launch", "slurm"], "--launch is not for merge; it is for score, search, label, fit"),
        (
            ["score", "--launch", "slurm", "--partiton", "p"],
            "option '--partiton' is not known; did you mean '--partition'?",
        ),
        (["score", "--launch", "slurm", "--batchsize", "3"], "did you mean '--batch_size'?"),
        (["score", "--launch", "slurm", "--proxies", "[vkdnv]"], "'vkdnv' is not known; did you mean 'vkdnw'?"),
        (["score", "--launch", "slurm", "--archs", "nowhere"], "archs='nowhere' is not allowed"),
        (
            ["score", *OPTIONS, "--launch", "slurm", "--array", "9"],
            "array=9 is not allowed: there are only 8 architectures",
        ),
        (["score", "--launch", "slurm", "--shard", "0/2"], "shard='0/2' has no use with --launch"),
        (["score", "--launch", "slurm", "--nodes", "2"], "--nodes is not for score"),
        (["search", "--launch", "slurm", "--array", "2"], "--array is not for search"),
        (["search", "--launch", "slurm", "--space", "nb202"], "space='nb202' is not known"),
        (["evaluate", "x.csv", "--launch", "slurm"], "out is missing"),
        (["evaluate", "x.csv", "--out", "e", "--launch", "slurm"], "x.csv cannot be read"),
    ],
)
def test_what_is_wrong_fails_before_it_is_in_the_queue(cluster, capsys, arguments, text):
    assert cli.main(arguments) == 2
    assert text in capsys.readouterr().err
    assert cluster.calls() == []
    assert list(Path().iterdir()) == []


def test_other_settings_and_cuts_are_refused(cluster, capsys):
    launch("--array", "2")
    cluster.knows(1, "RUNNING", "PENDING")
    other = ("score", *OPTIONS, "--out", "out", "--seeds", "2")
    assert launch("--array", "2", command=other) == 2
    assert "out was launched with other settings: seeds (there: [1], now: [2])" in capsys.readouterr().err
    assert launch("--array", "4") == 2
    assert "out was launched as 2 tasks, now 4" in capsys.readouterr().err
    assert launch("--array", "2", "--overwrite", command=("score", *OPTIONS, "--out", "out")) == 2
    assert "jobs of out are in the queue: first scancel 1" in capsys.readouterr().err
    assert len(cluster.calls()) == 2


def test_overwrite_begins_anew_and_is_not_for_the_tasks(cluster):
    launch("--array", "2")
    finish("out", "0-of-2", 4)
    assert launch("--array", "4", command=("score", *OPTIONS, "--out", "out", "--overwrite")) == 0
    assert not Path("out/shards/0-of-2").exists()
    assert "--array=0-3" in cluster.calls()[2]
    assert not any(argument.startswith("--overwrite") for argument in cluster.calls()[2])
    assert "overwrite" not in Path("out/slurm/score.yaml").read_text()


def fill(folder, meta_command, *files):
    for name in files:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
    Path(folder, "meta.json").write_text(json.dumps({"command": meta_command, "status": "finished", "settings": {}}))


def contents(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_nothing_of_another_command_is_overwritten(cluster, capsys):
    fit = ("fit", "--config", str(Path(__file__).parents[2] / "configs/digits_quick.yaml"), "--out")
    score = ("score", *OPTIONS, "--out")
    search = ("search", "--evaluations", "9", "--ranking", "macs", "--out")
    fill("training", "fit", "config.yaml", "checkpoints/last.ckpt", "history.jsonl", "scores.csv")
    fill("scoring", "merge", "scores.csv", "shards/0-of-2/scores.csv")
    fill("searching", "search", "history.csv", "found.json", "config.yaml")
    for command, out, text in (
        (score, "training", "holds a training, not a scoring"),
        (score, "searching", "holds a search, not a scoring"),
        (fit, "scoring", "holds a scoring, not a training"),
        (search, "scoring", "holds a scoring, not a search"),
    ):
        before = contents(out)
        for more in ((), ("--overwrite", "true"), ("--overwrite", "true", "--dry_run")):
            assert launch(*more, command=(*command, out)) == 2, (command[0], out)
            assert text in capsys.readouterr().err
        assert contents(out) == before
    assert cluster.calls() == []


def test_a_launch_of_another_command_is_not_overwritten(cluster, capsys):
    assert launch(command=("search", "--evaluations", "9", "--ranking", "macs", "--out", "out")) == 0
    before = contents("out")
    for more in ((), ("--overwrite",), ("--overwrite", "--dry_run")):
        assert launch(*more) == 2
        assert "out is where 'search' was launched; choose another folder" in capsys.readouterr().err
    assert contents("out") == before
    assert len(cluster.calls()) == 1


def test_overwrite_keeps_what_was_launched_beside_it(cluster):
    assert launch("--array", "2") == 0
    finish("out", "0-of-2", 4)
    Path("a.csv").write_text("arch,macs\n")
    assert launch(command=("evaluate", "a.csv", "--out", "out")) == 0
    markers, logs = Path("out/slurm/marks"), Path("out/slurm/logs")
    for name in ("0-of-2", "merge", "evaluate"):
        (markers / name).write_text("job=1\nexit_code=0\n")
    for name in ("1_0.log", "2.log", "3.log"):
        (logs / name).write_text("said")
    assert launch("--array", "4", command=("score", *OPTIONS, "--out", "out", "--overwrite")) == 0
    assert [path.name for path in markers.iterdir()] == ["evaluate"]
    assert [path.name for path in logs.iterdir()] == ["3.log"]


def test_refused_jobs_are_said(cluster, capsys):
    (cluster.folder / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: p' >&2; exit 1\n"
    )
    assert launch("--partition", "p") == 1
    assert "python -m vkdnw_pl score: sbatch: sbatch: error: invalid partition specified: p" in capsys.readouterr().err


def test_what_was_refused_does_not_stand_in_the_way(cluster, capsys):
    sbatch = cluster.folder / "sbatch"
    works = sbatch.read_text()
    sbatch.write_text("#!/bin/sh\nexit 1\n")
    assert launch("--array", "2") == 1
    sbatch.write_text(works)
    assert launch("--array", "4", command=("score", *OPTIONS, "--out", "out", "--seeds", "2")) == 0
    assert "--array=0-3" in cluster.calls()[0]
    assert json.loads(Path("out/slurm/launch.json").read_text())["settings"]["seeds"] == [2]


def test_a_damaged_record_is_said(cluster, capsys):
    Path("out/slurm").mkdir(parents=True)
    Path("out/slurm/launch.json").write_text('{"form')
    for more in ([], ["--overwrite"]):
        assert launch(command=("score", *OPTIONS, "--out", "out", *more)) == 2
        assert "out/slurm/launch.json is damaged" in capsys.readouterr().err
    assert cluster.calls() == []


def test_scripts_that_are_not_ours_stay(cluster, capsys):
    Path("slurm").mkdir()
    Path("slurm/score_array.sbatch").write_text("mine")
    assert launch("--array", "2", command=("score", *OPTIONS, "--out", ".")) == 2
    assert "slurm/score_array.sbatch is a script of your own" in capsys.readouterr().err
    assert Path("slurm/score_array.sbatch").read_text() == "mine"


def test_an_out_that_looks_like_an_option(cluster):
    assert launch(command=("score", *OPTIONS, "--out=-x")) == 0
    assert cluster.calls()[0][-1] == str(Path.cwd() / "-x")


def test_an_evaluation_is_done_again_when_asked_again(cluster, capsys):
    for name in ("a.csv", "b.csv"):
        Path(name).write_text("arch,macs\n")
    assert launch(command=("evaluate", "a.csv", "--out", "e")) == 0
    cluster.knows(1, "RUNNING")
    assert launch(command=("evaluate", "a.csv", "--out", "e")) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert launch(command=("evaluate", "b.csv", "--out", "e")) == 2
    assert "e was launched with other arguments, and job 1 is in the queue" in capsys.readouterr().err
    (cluster.folder / "known/1").unlink()
    Path("e/slurm/marks/evaluate").write_text("job=1\nexit_code=0\n")
    assert cli.main(["status", "e", "--resubmit"]) == 0
    assert len(cluster.calls()) == 1
    assert launch(command=("evaluate", "b.csv", "--out", "e")) == 0
    assert "b.csv" in cluster.calls()[1]


def test_a_condition_holds_until_the_tasks_have_begun(cluster, capsys):
    assert launch("--dependency", "afterok:7") == 0
    cluster.knows(1, "PENDING Reason=DependencyNeverSatisfied")
    assert cli.main(["status", "out", "--wait"]) == 1
    assert launch("--dependency", "afterok:8") == 0
    assert "cancelled job 1, which would never have begun" in capsys.readouterr().out
    assert "--dependency=afterok:8" in cluster.calls()[1]
    cluster.knows(2, "CANCELLED")
    assert cli.main(["status", "out", "--resubmit"]) == 1  # of the new job nothing is known here
    assert "--dependency=afterok:8" in cluster.calls()[2]
    Path("out/slurm/marks/score").write_text("job=3\nexit_code=1\n")
    assert launch("--dependency", "afterok:8") == 0
    assert not any(argument.startswith("--dependency") for argument in cluster.calls()[3])
    assert launch("--dependency", "afterok:9") == 0
    assert "--dependency=afterok:9" in cluster.calls()[4]


def test_a_machine_without_slurm(cluster, capsys, monkeypatch):
    assert launch() == 0
    (cluster.folder / "scontrol").unlink()
    monkeypatch.setenv("PATH", str(cluster.folder))
    assert cli.main(["status", "out", "--wait"]) == 1
    assert "there is no command 'scontrol' here" in capsys.readouterr().out


def test_overwrite_waits_for_the_jobs_in_a_dry_run_too(cluster, capsys):
    assert launch("--array", "4") == 0
    cluster.knows(1, "RUNNING", "FAILED")
    for more in ([], ["--dry_run"]):
        assert launch(*more, "--array", "2", command=("score", *OPTIONS, "--out", "out", "--overwrite")) == 2
        assert "jobs of out are in the queue: first scancel 1" in capsys.readouterr().err


def test_missing_tasks_again_with_the_site_of_the_launch(cluster, monkeypatch):
    Path("mine.env").write_text("echo loading\nVKDNW_SBATCH='--constraint=big'\n")
    monkeypatch.setenv("VKDNW_SITE_ENV", "mine.env")
    assert launch("--array", "2") == 0
    monkeypatch.delenv("VKDNW_SITE_ENV")
    assert cli.main(["status", "out", "--resubmit"]) == 1  # of the new job nothing is known here
    assert all("--constraint=big" in call for call in cluster.calls())
    assert len(cluster.calls()) == 4


def test_options_of_the_site_that_cannot_be_read(cluster, capsys, monkeypatch):
    monkeypatch.setenv("VKDNW_SBATCH", "--constraint='big")
    assert launch() == 1
    assert 'VKDNW_SBATCH="--constraint=\'big" cannot be read: No closing quotation' in capsys.readouterr().err


def test_values_of_the_site(cluster, monkeypatch):
    Path("slurm").mkdir()
    Path("slurm/site.env").write_text(
        "SBATCH_PARTITION=site\nSBATCH_ACCOUNT=theirs\nVKDNW_SBATCH=\"--constraint='big one'\"\nVKDNW_VENV=/venv\n"
    )
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("VKDNW_SRUN", "--mpi=none")
    assert launch() == 0
    (call,) = cluster.calls()
    assert "--constraint=big one" in call
    environment = dict(
        line.split("=", 1) for line in (cluster.folder / "sbatch.env").read_text().splitlines() if "=" in line
    )
    assert (environment["SBATCH_PARTITION"], environment["SBATCH_ACCOUNT"]) == ("site", "mine")
    assert Path("out/slurm/site.env").read_text() == Path("slurm/site.env").read_text()
    script = Path("out/slurm/command.sbatch").read_text()
    assert "export VKDNW_SRUN=--mpi=none" in script
    assert "VKDNW_PYTHON" not in script, "the site chose an environment"


def test_tasks_of_an_array_are_one_group_on_wandb(cluster, monkeypatch):
    assert launch("--array", "2", command=("score", *OPTIONS, "--out", "out", "--wandb", "p")) == 0
    script = Path("out/slurm/score_array.sbatch").read_text()
    assert "export WANDB_RUN_GROUP=out-" in script
    assert "--wandb=p" in cluster.calls()[1]
    assert (
        launch("--array", "2", command=("score", *OPTIONS, "--out", "own", "--wandb", "p", "--wandb_group", "g")) == 0
    )
    assert "WANDB_RUN_GROUP" not in Path("own/slurm/score_array.sbatch").read_text()


def test_a_search_on_several_machines(cluster):
    command = (
        *("search", "--space", "nb201", "--evaluations", "9", "--ranking", "macs+aleph", "--out", "s"),
        *("--network", "{channels: 4, cells: 1, image_size: 8}", "--batch_size", "4"),
    )
    assert launch("--nodes", "2", "--cpus", "4", command=command) == 0
    (call,) = cluster.calls()
    assert {"--nodes=2", "--ntasks-per-node=4"} <= set(call)
    assert not any(argument.startswith("--cpus-per-task") for argument in call)
    assert "nodes" not in yaml.safe_load(Path("s/slurm/search.yaml").read_text())


def test_trainings(cluster, capsys):
    fit = ("fit", "--config", str(Path(__file__).parents[2] / "configs/digits_quick.yaml"), "--out", "f")
    assert launch("--gpus", "4", "--cpus", "8", command=(*fit, "--trainer.accelerator", "gpu")) == 0
    (call,) = cluster.calls()
    assert {"--gpus-per-node=4", "--cpus-per-task=8", "--ntasks-per-node=4"} <= set(call)
    assert call[-4:] == ["--config", "f/slurm/fit.yaml", "--out", "f"]
    assert yaml.safe_load(Path("f/slurm/fit.yaml").read_text())["trainer"]["max_epochs"] == 12
    capsys.readouterr()
    for more, text in (
        (["--trainer.max_epoch", "3"], "did you mean '--trainer.max_epochs'?"),
        (["--array", "2"], "array=2 trains the best networks of a search"),
        (["--trainer.accelerator", "gpu"], "needs --gpus N"),
        (["--gpus", "2"], "trainer.accelerator=cpu has no use for --gpus 2"),
        (["--job_name", "bash"], "Lightning takes such a job for a shell"),
    ):
        assert launch(*more, command=fit) == 2
        assert text in capsys.readouterr().err
    found = {"arch": "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_1x1~2|", "space": "nb201"}
    top = [{"rank": i + 1, **found} for i in range(2)]
    Path("found.json").write_text(json.dumps({**found, "top": top}))
    sweep = (*fit[:-1], "sweep", "--model.arch", "found.json", "--model.network", "null")
    assert launch("--array", "2", command=sweep) == 0
    call = cluster.calls()[-1]
    assert "--array=0-1" in call
    assert call[-6:] == ["--config", "sweep/slurm/fit.yaml", "--model.arch", "found.json", "--out", "sweep"]
    record = json.loads(Path("sweep/slurm/launch.json").read_text())
    assert [task["folder"] for task in record["tasks"]] == ["rank-1", "rank-2"]
    assert launch("--array", "3", command=sweep) == 2
    Path("sweep/rank-2").mkdir()
    assert launch("--array", "1", command=(*sweep, "--overwrite", "true")) == 0
    assert not Path("sweep/rank-2").exists()


def test_thethe_help_of_every_command_says_how_to_launch_it(cluster, capsys):
    for name in ("score", "search", "fit", "validate", "test", "evaluate"):
        assert cli.main([name, "--help"]) == 0
        assert "--launch slurm" in capsys.readouterr().out
        assert cli.main([name, "--launch", "--help"]) == 0
        assert "--partition PARTITION" in capsys.readouterr().out

import pytest

from vkdnw_pl.cluster.slurm import SlurmError, array_indices, job_states, run_slurm, submit

WAITING = (
    "JobId=7 ArrayJobId=7 ArrayTaskId=0-1,3%2 ArrayTaskThrottle=2 JobName=wrap JobState=PENDING Reason=Resources "
    "Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 ExitCode=0:0 RunTime=00:00:00 StartTime=Unknown"
)
FAILED = (
    "JobId=8 ArrayJobId=7 ArrayTaskId=2 JobName=wrap JobState=FAILED Reason=NonZeroExitCode Dependency=(null) Requeue=1 "
    "Restarts=3 ExitCode=137:0 RunTime=00:00:09 StartTime=2026-01-01T00:00:00 BatchHost=n1 Command=/a.sh JobState=no"
)
KILLED = "JobId=9 JobName=one JobState=TIMEOUT Reason=TimeLimit Restarts=0 ExitCode=0:15 RunTime=00:01:00"


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Commands of SLURM that print what the test says."""

    def answer(name, text, code=0, error=""):
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\necho '{error}' >&2\nexit {code}\n")
        file.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return answer


def test_array_indices():
    assert list(array_indices("0,2-4%8")) == [0, 2, 3, 4]
    assert list(array_indices("0-14:2%3")) == list(range(0, 15, 2))


def test_scontrol_is_read(answers):
    answers("scontrol", f"{WAITING}\n{FAILED}")
    states = job_states(["7"])
    assert set(states) == {("7", 0), ("7", 1), ("7", 2), ("7", 3)}
    assert states["7", 3].waits
    assert states["7", 3].reason == "Resources"
    failed = states["7", 2]
    assert (failed.state, failed.exit_code, failed.restarts, failed.node) == ("FAILED", 137, 3, "n1")
    assert not failed.waits
    assert not failed.runs
    answers("scontrol", KILLED)
    assert job_states(["9"])["9", None].exit_code == 128 + 15


def test_of_forgotten_jobs_sacct_tells(answers):
    answers("scontrol", "", 1, "slurm_load_jobs error: Invalid job id specified")
    answers("sacct", "10_0|COMPLETED|0:0\n10_1|CANCELLED by 0|0:15\n10_[2-3]|PENDING|0:0\n11|OUT_OF_MEMORY|0:125")
    states = job_states(["10", "11"])
    assert [states["10", i].state for i in range(4)] == ["COMPLETED", "CANCELLED", "PENDING", "PENDING"]
    assert states["11", None].state == "OUT_OF_MEMORY"
    answers("sacct", "", 1, "Slurm accounting storage is disabled")
    assert job_states(["10", "11"]) == {}


def test_no_answer_is_no_news(answers):
    answers("scontrol", "", 1, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(SlurmError, match=r"scontrol: .*Unable to contact slurm controller"):
        job_states(["7"])


def test_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="there is no command 'sbatch' here"):
        run_slurm(["sbatch"])


def test_variables_of_a_job_around_are_not_handed_on(answers, monkeypatch):
    answers("env_of", "")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    text = run_slurm(["env"])
    assert "SLURM_CPUS_PER_TASK" not in text
    assert "SLURM_CONF=/etc/slurm.conf" in text


def test_an_array_that_is_too_long(tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: Invalid job array specification' >&2; exit 1\n")
    sbatch.chmod(0o755)
    with pytest.raises(SlurmError, match="MaxArraySize"):
        submit([str(sbatch)], {})

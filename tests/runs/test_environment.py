import json
import subprocess
import sys

import torch

import vkdnw_pl
from vkdnw_pl.runs import environment


def test_record_of_this_machine():
    record = environment.environment_record()
    assert json.loads(json.dumps(record)) == record
    assert record["versions"]["vkdnw_pl"] == vkdnw_pl.__version__
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["cpu"]
    assert environment.device_record("cpu") == {"kind": "cpu"}


def test_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    package = tmp_path / "vkdnw_pl"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(vkdnw_pl, "__file__", str(package / "__init__.py"))
    assert environment.environment_record()["commit"] is None

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert environment.environment_record()["commit"] == head
    (package / "__init__.py").write_text("changed = 1")
    assert environment.environment_record()["commit"] == head + "+changes"


def test_record_imports_no_library():
    code = (
        "import sys; from vkdnw_pl.runs.environment import environment_record; environment_record();"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_usable_cores_respect_the_share_of_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(environment, "_CGROUP_V2", limit)
    monkeypatch.setattr(environment, "_CGROUP_V1", tmp_path)
    assert environment.usable_cores() == 8
    for text, count in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("9000000 100000", 8)):
        limit.write_text(text + "\n")
        assert environment.usable_cores() == count
    limit.unlink()
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    for text, count in (("-1", 8), ("300000", 3)):
        (tmp_path / "cpu.cfs_quota_us").write_text(text + "\n")
        assert environment.usable_cores() == count


def test_usable_cores_respect_the_share_of_a_task_of_slurm(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(environment, "_CGROUP_V2", tmp_path / "none")
    monkeypatch.setattr(environment, "_CGROUP_V1", tmp_path)
    for text, count in (("3", 3), ("20", 8), ("", 8)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", text)
        assert environment.usable_cores() == count

from vkdnw_pl.runs import cores


def test_usable_cores_respect_the_share_of_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(cores, "_CGROUP_V2", limit)
    monkeypatch.setattr(cores, "_CGROUP_V1", tmp_path)
    assert cores.usable_cores() == 8
    for text, count in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("9000000 100000", 8)):
        limit.write_text(text + "\n")
        assert cores.usable_cores() == count
    limit.unlink()
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    for text, count in (("-1", 8), ("300000", 3)):
        (tmp_path / "cpu.cfs_quota_us").write_text(text + "\n")
        assert cores.usable_cores() == count


def test_usable_cores_respect_the_share_of_a_task_of_slurm(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_CGROUP_V2", tmp_path / "none")
    monkeypatch.setattr(cores, "_CGROUP_V1", tmp_path)
    for text, count in (("3", 3), ("20", 8), ("", 8)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", text)
        assert cores.usable_cores() == count

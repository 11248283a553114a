from dataclasses import fields

import pytest

from vkdnw_pl.cluster.options import (
    LaunchOptions,
    nearest_option,
    read_options,
    read_time,
    slurm_time,
    split_options,
)
from vkdnw_pl.errors import UsageError


def read(**values):
    return read_options([f"--{name}={value}" for name, value in values.items()], "python -m vkdnw_pl score")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400),
        ("2h", 7200),
        ("1d12h", 129600),
        ("45s", 45),
        ("1-00:00:00", 86400),
        ("02:30:00", 9000),
        ("1h30m", 5400),
    ],
)
def test_times(text, seconds):
    assert read_time(text) == seconds
    assert read_time(slurm_time(seconds)) == seconds


def test_time_as_slurm_writes_it():
    assert slurm_time(90 * 60) == "0-01:30:00"
    assert slurm_time(86400 + 61) == "1-00:01:01"


@pytest.mark.parametrize("text", ["90", "2 h", "h", "1:30", "0m", "-2h", "2h ", "", "1-2", "2w"])
def test_other_times_are_refused_with_what_is_allowed(text):
    with pytest.raises(ValueError, match=r"time='.*' is not allowed.*90m, 2h, 1d12h.*1-00:00:00"):
        read_time(text)


def test_options_are_told_apart():
    launch_arguments, command_arguments = split_options(
        [
            "--config",
            "a.yaml",
            "--launch",
            "slurm",
            "--array=8",
            "--dry-run",
            "--wait",
            "false",
            "--seeds",
            "1..3",
            "--mem=2G",
        ]
    )
    assert launch_arguments == ["--launch=slurm", "--array=8", "--dry_run=true", "--wait=false", "--mem=2G"]
    assert command_arguments == ["--config", "a.yaml", "--seeds", "1..3"]


def test_a_missing_value_is_an_error():
    for arguments in (["--launch", "slurm", "--array"], ["--launch", "slurm", "--time", "--wait"]):
        with pytest.raises(UsageError, match="needs a value"):
            split_options(arguments)


def test_options_become_those_of_sbatch():
    options = read(
        launch="slurm",
        array="64%8",
        time="2h",
        partition="gpu",
        account="a1",
        qos="long",
        gpus="a100:4",
        cpus="8",
        mem="16gb",
        nodes="2",
        sbatch="[--constraint=a100, --mail-type=FAIL]",
    )
    assert (options.num_tasks, options.at_once, options.gpu_count) == (64, 8, 4)
    assert options.resources() == [
        *("--time=0-02:00:00", "--partition=gpu", "--account=a1", "--qos=long", "--gpus-per-node=a100:4"),
        *("--cpus-per-task=8", "--mem=16G", "--nodes=2", "--constraint=a100", "--mail-type=FAIL"),
    ]
    assert options.merge_resources() == ["--partition=gpu", "--account=a1", "--qos=long"]
    assert LaunchOptions().resources() == []


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("launch", "pbs", "launch=pbs is not allowed: it takes slurm"),
        ("array", "0", "give how many tasks, such as 64"),
        ("array", "0-7", "give how many tasks"),
        ("array", "8%", "give how many tasks"),
        ("gpus", "two", "such as 1, or with their type"),
        ("cpus", "1.5", "cpus=1.5 is not allowed: it takes a whole number"),
        ("cpus", "0", "cpus=0 is not allowed: give a whole number of at least 1"),
        ("nodes", "0", "a whole number of at least 1"),
        ("mem", "16", "such as 16G"),
        ("partition", "a b", "a name without spaces"),
        ("account", "", "a name without spaces"),
        ("dependency", "123", "such as afterok:123"),
        ("sbatch", "constraint", "give a list of options"),
        ("sbatch", "[--array=3]", "--array is decided by the launcher"),
        ("sbatch", "[--arr=3]", "--array is decided by the launcher"),
        ("sbatch", "[-a0-3]", "--array is decided by the launcher"),
        ("sbatch", "[--chdir=/]", "--chdir is decided by the launcher"),
        ("sbatch", "[-Mother]", "--clusters is decided by the launcher"),
        ("time", "2m", "a task stops 120 s before its time limit"),
        ("wait", "maybe", "true or false"),
        ("sbatch", "[", "give a list of options"),
    ],
)
def test_wrong_values_are_refused(name, value, text):
    with pytest.raises(UsageError, match=text.replace("(", r"\(")):
        read(**{name: value})


def test_a_short_time_needs_a_later_signal():
    options = read(time="2m", sbatch="[--signal=USR1@30, -pgpu]")
    assert options.resources() == ["--time=0-00:02:00", "--signal=USR1@30", "-pgpu"]
    assert read(time="2m", sbatch="--signal=USR1@30").resources() == ["--time=0-00:02:00", "--signal=USR1@30"]


@pytest.mark.parametrize("when", ["afterok:123", "afterany:1:2_3,afterok:4", "singleton"])
def test_dependencies(when):
    assert read(dependency=when).dependency == when


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        read_options(["--help"], "python -m vkdnw_pl score")
    text = capsys.readouterr().out
    assert all(f"--{option.name}" in text for option in fields(LaunchOptions))
    assert "--config" not in text
    assert "what became of the jobs: python -m vkdnw_pl status OUT" in text


def test_typos():
    assert nearest_option("--partiton") == "; did you mean '--partition'?"
    assert nearest_option("--dryrun") == "; did you mean '--dry_run'?"
    for option in ("--proxies", "--batchsize", "--workres"):
        assert nearest_option(option) == ""

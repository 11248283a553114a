"""After any fault the same command gives what it gives without one: no row is lost, made again or changed.

`python -m pytest tests/faults --fault-runs 100` is the long version.
"""

import csv
import hashlib
import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml
from fault_injection import (
    Disk,
    Process,
    can_mount,
    count_changes,
    die_at,
    kill_a_child_later,
    kill_later,
    limit_files,
    obey_modes,
    read_only,
    stream,
)

import vkdnw_pl
import vkdnw_pl.report.run_pages
import vkdnw_pl.scoring.workers
import vkdnw_pl.training.cli
from vkdnw_pl.callbacks import read_history
from vkdnw_pl.runs.files import whole_lines
from vkdnw_pl.spaces import NB201

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")

ARCHS = 8
NETWORK = {"channels": 2, "cells": 1, "image_size": 8}
SCORE = {
    "network": NETWORK,
    "proxies": ["macs", "params", "vkdnw"],
    "batch_size": 2,
    "device": "cpu",
    "progress": False,
    "workers": 2,
}
SEARCH = {
    "space": "nb201",
    "network": NETWORK,
    "ranking": "vkdnw+macs",
    "evaluations": 10,
    "batch": 3,
    "batch_size": 2,
    "device": "cpu",
    "progress": False,
    "workers": 2,
    "figures": False,
}
FIT = {
    "model": {
        "arch": "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
        "network": {"channels": 2, "cells": 1},
        "schedule": {"warmup_epochs": 0},
    },
    "data": {"class_path": "Digits", "init_args": {"batch_size": 50, "val_size": 800, "image_size": 8}},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "limit_train_batches": 3,
        "limit_val_batches": 1,
        "limit_test_batches": 1,
        "log_every_n_steps": 100,
        "enable_progress_bar": False,
        "callbacks": [{"class_path": "RunCheckpoints", "init_args": {"every_n_steps": 1}}],
    },
}
Rows = dict[str, str]
"""Name -> what it must be: rows of tables, tensors, metrics, whole files."""


@dataclass
class Command:
    """A command, what it needs beside its folder, and what of its results must be equal."""

    name: str
    inputs: Path
    whole: Rows = field(default_factory=dict)
    seconds: float = 0.0
    changes: int = 0

    def arguments(self, folder):
        """The command line; ``folder`` is what it writes to."""
        out = str(folder / "out")
        given = self.inputs
        if self.name in ("score", "search", "fit"):
            return [self.name, "--config", str(given / f"{self.name}.yaml"), "--out", out]
        if self.name == "merge":
            return ["merge", str(given / "shard-0"), str(given / "shard-1"), "--out", out]
        if self.name == "evaluate":
            return ["evaluate", str(given / "scores.csv"), "--oracle", str(given / "oracle.csv"), "--out", out]
        return ["report", str(given / "shard-0"), "--out", f"{out}.html", "--markdown", f"{out}.md"]

    def results(self, folder):
        """What of the results is the same in every run that was not disturbed."""
        out, rows = folder / "out", {}
        if self.name == "report":
            made_at = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
            return {path.name: _digest(made_at.sub(b"", path.read_bytes())) for path in sorted(folder.glob("out*"))}
        for name in ("scores.csv", "ranking.csv", "metrics.csv", "history.csv", "archs.txt"):
            if (out / name).is_file():
                rows |= _lines(out / name)
        for path in sorted(out.glob("figures/*.png")):
            rows[f"figures/{path.name}"] = _digest(path.read_bytes())
        if (out / "meta.json").is_file():
            rows["status"] = json.loads((out / "meta.json").read_text())["status"]
        if self.name == "search":
            rows["found.json"] = (out / "found.json").read_text()
        if self.name == "fit":
            rows |= _training(out)
        left = [path.name for path in out.rglob("*") if ".tmp" in path.name or path.name == "rows"]
        return {**rows, "left behind": str(left)}

    def kept(self, folder):
        """Rows that are on the disk after the fault, which no later run may make again."""
        tables = {"score": [*(folder / "out").glob("rows/*.csv"), folder / "out" / "scores.csv"]}
        tables["search"] = [folder / "out" / "history.csv"]
        names = set()
        for path in tables.get(self.name, ()):
            if path.is_file():
                lines = whole_lines(path.read_bytes()).decode().splitlines()[1:]
                names |= {line.split(",ok,")[0] for line in lines}
        return len(names)

    def made(self, folder):
        """Rows that the last run has made."""
        if self.name not in ("score", "search"):
            return None
        attempt = json.loads((folder / "out" / "meta.json").read_text())["runs"][-1]
        return attempt.get("rows_made" if self.name == "score" else "evaluated", 0)


def _lines(path):
    """The lines of a table without their times, each by its place."""
    lines = path.read_text().splitlines()
    timed = lines[0].endswith(",seconds")
    return {f"{path.name} {i}": line.rpartition(",")[0] if timed else line for i, line in enumerate(lines)}


def _digest(content):
    return hashlib.sha256(content).hexdigest()


_MEASURED = ("train/", "val/", "test/")


def _training(out):
    last = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    rows = {"global_step": str(last["global_step"])}
    for name, value in json.loads((out / "results.json").read_text()).items():
        if name.startswith(_MEASURED):
            rows[f"results.json {name}"] = repr(value)
    tensors = dict(last["state_dict"])
    for number, state in last["optimizer_states"][0]["state"].items():
        tensors |= {f"optimizer {number} {name}": value for name, value in state.items()}
    best = torch.load(out / "checkpoints" / "best.ckpt", weights_only=True)
    tensors |= {f"best {name}": value for name, value in best["state_dict"].items()}
    rows |= {name: _digest(value.numpy().tobytes()) for name, value in tensors.items()}
    for line in read_history(out / "history.jsonl"):
        for name, value in line.items():
            if name.startswith(_MEASURED):
                rows[f"history {line['step']} {name}"] = repr(value)
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the commands need: options, shards, a table, accuracies."""
    folder = tmp_path_factory.mktemp("inputs")
    space = NB201()
    archs = list(space.enumerate(unique=True))[::40]
    rows = [f"{arch},{40 + space.cost(arch).macs / 1e7}\n" for arch in archs]
    (folder / "oracle.csv").write_text("arch,made_up\n" + "".join(rows))
    (folder / "archs.txt").write_text("".join(f"{arch}\n" for arch in archs[-ARCHS:]))
    # The first derivative costs a second, and so in every process that is forked before it.
    vkdnw_pl.score(space.build(archs[-1], channels=2, cells=1), (3, 8, 8), proxies=["vkdnw"], batch_size=2)
    files = {"archs": str(folder / "archs.txt"), "oracle": str(folder / "oracle.csv")}
    options = {"score": {**SCORE, **files}, "search": SEARCH, "fit": FIT}
    for name, content in options.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for i in (0, 1):
        shard = ["score", "--config", str(folder / "score.yaml"), "--shard", f"{i}/2", "--workers", "1"]
        assert Process([*shard, "--out", str(folder / f"shard-{i}")], folder / "output.txt").wait() == 0
    columns = [(folder / f"shard-{i}" / "scores.csv").read_text().splitlines(keepends=True) for i in (0, 1)]
    (folder / "scores.csv").write_text("".join(columns[0] + columns[1][1:]))
    return folder


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """Of this size a file system can be full; None where none can be mounted."""
    folder = tmp_path_factory.mktemp("disk")
    if not can_mount(folder / "trial"):
        yield None
        return
    disk = Disk(folder / "disk", 16 << 20)
    yield disk
    disk.close()


def undisturbed(command, folder):
    """Run it once, to know what it makes, how long that takes, and how many changes of files it is."""
    numbers = folder / "numbers"

    def count(number):
        os.pwrite(file, b"%8d" % (number + 1), 0)

    file = os.open(numbers, os.O_RDWR | os.O_CREAT)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    process = Process(command.arguments(work), folder / "output.txt", count_changes(work, count))
    assert process.wait() == 0, (folder / "output.txt").read_text()
    os.close(file)
    command.seconds = time.monotonic() - process.began_at
    command.changes = int(numbers.read_text() or 0)
    command.whole = command.results(work)


def strike(command, fault, folder, output, disk, random):
    """Run the command with a fault; returns what was done and the exit codes."""
    arguments = command.arguments(folder)
    moment, other = (random.uniform(0, command.seconds) for _ in range(2))
    if fault == "kill":
        return f"after {moment:.3f} s", [kill_later(Process(arguments, output), moment)]
    if fault == "kill_twice":
        codes = [kill_later(Process(arguments, output), seconds) for seconds in (moment, other)]
        return f"after {moment:.3f} s and {other:.3f} s", codes
    if fault == "write":
        number = random.randrange(command.changes)
        return f"before change {number}", [Process(arguments, output, count_changes(folder, die_at(number))).wait()]
    if fault == "full":
        room = int(10 ** random.uniform(2, 5.7))
        disk.leave(room)
        code = Process(arguments, output).wait()
        disk.ballast.unlink()
        return f"{room} bytes free", [code]
    if fault == "limit":
        size = int(10 ** random.uniform(1, 5.3))
        return f"files of {size} bytes", [Process(arguments, output, lambda: limit_files(size)).wait()]
    if fault == "read_only":
        first = kill_later(Process(arguments, output), moment)
        with read_only(folder):
            return f"after {moment:.3f} s", [first, Process(arguments, output, obey_modes).wait()]
    if fault == "two":
        first = Process(arguments, output)
        pause = random.choice([0, moment])
        time.sleep(pause)
        processes = [first, Process(arguments, Path(f"{output}.other"))]
        return f"the second {pause:.3f} s later", [process.wait() for process in processes]
    if command.name == "fit":
        arguments = [*arguments, "--data.init_args.num_workers", "1"]
    return f"after {moment:.3f} s", [kill_a_child_later(Process(arguments, output), moment)]


_ALLOWED = {
    "kill": {-9, 0},
    "write": {-9},
    "kill_twice": {-9, 0},
    "full": {0, 1},
    "limit": {0, 1},
    "read_only": {-9, 0, 1},
    "two": {0},
    "worker": {0, 1},
}
"""Exit codes of a run that meets the fault."""


def meet(command, fault, i, work, output, disk, results):
    """One fault and the run after it; raises if anything is different from an undisturbed run."""
    what, codes = strike(command, fault, work, output, disk, stream(command.name, i))
    said = output.read_text(errors="replace")
    label = f"{command.name} {i}: {fault} {what}, exit codes {codes}"
    kept = command.kept(work)
    workers = ["--workers", "1"] if command.name in ("score", "search") and i % 2 else []
    code = Process([*command.arguments(work), *workers], output).wait()
    again = output.read_text(errors="replace")
    found = command.results(work) if code == 0 else {}
    lost = [name for name in command.whole if name not in found]
    changed = [name for name in found if found[name] != command.whole.get(name)]
    made = command.made(work) if code == 0 else None
    total = {"score": ARCHS, "search": SEARCH["evaluations"]}.get(command.name)
    made_again = 0 if made is None else made - (total - kept)
    if results is not None:
        line = [command.name, i, fault, what, " ".join(map(str, codes)), kept, len(lost), len(changed), made_again]
        with Path(results).open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(line)
    if "resource_sharer" not in said:  # of which Python itself says when a loader's worker is killed
        assert "Traceback" not in said, f"{label}\n{said}"
    assert set(codes) <= _ALLOWED[fault], f"{label}\n{said}"
    assert code == 0, f"{label}\n{again}"
    assert (lost, changed, made_again) == ([], [], 0), (
        f"{label}\n{ {name: (found[name], command.whole.get(name)) for name in changed} }\n{again}"
    )


COMMANDS = {
    "score": ("kill", "worker", "write", "full", "two", "read_only", "kill_twice", "limit"),
    "search": ("write", "full", "kill", "worker", "read_only", "two", "limit", "kill_twice"),
    "fit": ("kill", "full", "write", "worker", "read_only", "two", "limit", "kill_twice"),
    "merge": ("read_only", "write", "kill", "full", "two", "limit"),
    "evaluate": ("full", "two", "write", "kill", "read_only", "limit"),
    "report": ("limit", "write", "two", "full", "read_only", "kill"),
}
"""Command -> the faults that it meets by turns."""


def check(name, runs, tmp_path, place, disk, results):
    command = Command(name, place)
    for _ in range(1 if len(runs) < 10 else 2):  # the first has more to load
        undisturbed(command, tmp_path)
    failures = []
    for i in runs:
        fault = COMMANDS[name][i % len(COMMANDS[name])]
        if fault == "full" and disk is None:
            fault = "limit"
        work = (disk.folder if fault == "full" else tmp_path) / f"{name}-{i}"
        work.mkdir()
        try:
            meet(command, fault, i, work, tmp_path / f"{name}-{i}.txt", disk, results)
        except AssertionError as failure:
            failures.append(str(failure))
        finally:
            shutil.rmtree(work)
    assert not failures, f"{len(failures)} of {len(runs)}:\n" + "\n\n".join(failures)


@pytest.mark.parametrize(
    ("name", "first"), {"score": 1, "search": 2, "fit": 2, "merge": 0, "evaluate": 0, "report": 2}.items()
)
def test_a_fault_changes_nothing(name, first, tmp_path, place, disk, request):
    """Faults by turns, at random moments; in the suite one of each command, each another one."""
    runs, results = (request.config.getoption(option, None) for option in ("--fault-runs", "--fault-results"))
    check(name, [first] if runs is None else range(runs), tmp_path, place, disk, results)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_further_faults_change_nothing(name, tmp_path, place, disk):
    check(name, range(3, 6), tmp_path, place, disk, None)

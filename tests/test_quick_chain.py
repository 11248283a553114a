"""examples/quick_chain.sh, shortened, and docs/from_search_to_use.md, which goes on with what it leaves behind."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vkdnw_pl import cli
from vkdnw_pl.training.exported import load_exported

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "from_search_to_use.md").read_text(encoding="utf-8")
SHORT = {
    "SEARCH_OPTIONS": "--evaluations 8 --workers 1 --figures false --progress false",
    "FIT_OPTIONS": "--trainer.max_epochs 1 --model.schedule.warmup_epochs 0",
    "FORMATS": "state_dict,onnx",
    "PYTHON": sys.executable,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
}


def run_chain(folder):
    return subprocess.run(
        ["bash", str(ROOT / "examples" / "quick_chain.sh"), str(folder)],
        env={**os.environ, **SHORT},
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain") / "quick chain"  # a folder's name may have a space
    done = run_chain(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_every_step_did_its_part(chain):
    folder, said = chain
    found = json.loads((folder / "search" / "found.json").read_text())
    card = json.loads((folder / "export" / "model.json").read_text())
    assert found["evaluated"] == 8
    assert found["macs"] <= 6e6
    assert (card["arch"], card["macs"], card["num_params"]) == (found["arch"], found["macs"], found["num_params"])
    assert card["trained"]
    assert card["input_size"] == [3, 32, 32]
    assert card["onnx"]["difference"] <= 1e-4
    assert f"(fit measured {card['accuracy']['val/top1']:.2f} %)" in said


def test_the_exported_file_is_enough(chain, tmp_path):
    folder, _ = chain
    moved = tmp_path / "model.pt"
    moved.write_bytes((folder / "export" / "model.pt").read_bytes())
    network = load_exported(moved)
    assert network.num_classes == 10


def test_the_page_does_what_it_says(chain, tmp_path, monkeypatch, capsys):
    """Block by block; searches and trainings, which take longer, are read by their command."""
    folder, _ = chain
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quick_chain").symlink_to(folder)
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    names = {}
    for language, code in re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.DOTALL):
        if language == "python":
            exec(compile(code, "from_search_to_use.md", "exec"), names)
            continue
        for line in code.splitlines():
            program, *arguments = shlex.split(line)
            if program == "bash":
                assert Path(arguments[0]).is_file()
                continue
            assert [program, *arguments[:2]] == ["python", "-m", "vkdnw_pl"], line
            runs = arguments[2] in ("export", "test", "validate", "predict") and "quick_chain" in line
            # The chain's shortened form writes ONNX already.
            again = ["--overwrite", "true"] if "onnx" in line else []
            assert cli.main([*arguments[2:], *(again if runs else ["--print_config"])]) == 0, line
    said = capsys.readouterr().out
    assert "torch.Size([1, 10]) ('0', '1', '2'" in said
    assert "(5, 10) ['0', '1', '2'" in said
    with (folder / "predictions" / "predictions.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [f"scanned/digit {number}.png" for number in range(5)]
    assert len(list(tmp_path.glob("predictions/digit 3-*/predictions.csv"))) == 1

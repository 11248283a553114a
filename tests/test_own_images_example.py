"""examples/own_images.sh, shortened, from an empty folder."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHORT = {
    "SEARCH_OPTIONS": "--evaluations 4 --population 2 --batch 4 --workers 1 --figures false --progress false",
    "FIT_OPTIONS": "--trainer.max_epochs 1 --model.schedule.warmup_epochs 0",
    "PYTHON": sys.executable,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
}


def test_from_a_folder_of_pictures_to_labels(tmp_path):
    folder = tmp_path / "my pictures"
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "own_images.sh"), str(folder)],
        env={**os.environ, **SHORT},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "search" / "found.json").read_text())
    card = json.loads((folder / "export" / "model.json").read_text())
    assert (found["num_classes"], found["input_size"]) == (10, [3, 32, 32])
    assert (card["arch"], card["num_classes"]) == (found["arch"], 10)
    with open(folder / "labels" / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted(entry.name for entry in (folder / "pictures").iterdir())
    assert len(rows) == 100
    assert all(names[int(row["predicted"])] == row["predicted_name"] for row in rows)
    assert "of 100 new pictures are labelled as their file names say" in done.stdout

"""What a training logs, and at which steps."""

import pytest
from test_resume import EVERYTHING
from training_runs import run_fit

from vkdnw_pl.callbacks import read_history

CLIP = 0.05
CONFIG = {**EVERYTHING, "trainer": {**EVERYTHING["trainer"], "max_epochs": 2, "gradient_clip_val": CLIP}}


def test_everything_a_user_expects(tmp_path):
    every, other = tmp_path / "every", tmp_path / "other"
    assert run_fit(CONFIG, every) == 0
    assert run_fit(CONFIG, other, "--trainer.log_every_n_steps", "2") == 0
    steps = {line["step"]: line for line in read_history(every) if "train/loss_step" in line}
    assert sorted(steps) == list(range(8))
    for line in steps.values():
        parts = [value for name, value in line.items() if name.startswith("train/loss_") and name != "train/loss_step"]
        assert len(parts) == 3  # against the labels, the teacher's logits and its features
        assert sum(parts) == pytest.approx(line["train/loss_step"], rel=1e-6)
        assert line["grad_norm"] > CLIP  # as it was before it was clipped
        assert line["lr"] >= 0
    assert [line.get("ema_decay") for line in steps.values()][:3] == pytest.approx([0, 2 / 11, 3 / 12])
    thinned = [line for line in read_history(other) if "train/loss_step" in line]
    assert thinned == [steps[step] for step in (1, 3, 5, 7)]  # of these steps, none of an earlier one
    epochs = [line for line in read_history(every) if "epoch_s" in line]
    assert len(epochs) == 2
    expected = {"epoch_s", "images_per_s", "loader_wait", "train/loss", "train/top1", "train/top5"}
    assert all(expected <= set(line) for line in epochs)
    validated = [line for line in read_history(every) if "val/top1" in line]
    assert all({"val/loss", "val/top1", "val/top5"} <= set(line) for line in validated)

import io
import math
import re

import pytest
from callback_training import TWO_PROCESSES, Clock, SmallData, SmallModule, trainer
from pytorch_lightning.callbacks import TQDMProgressBar

from vkdnw_pl.callbacks import throughput, train_progress
from vkdnw_pl.callbacks.throughput import Throughput
from vkdnw_pl.callbacks.train_progress import Pace, TrainBar, TrainProgress, progress_callbacks


class Screen(io.StringIO):
    def isatty(self):
        return True


LINE = re.compile(
    r"epoch (\d)/3: loss [\d.]+, val top-1 \d+\.\d\d %, top-5 100\.00 %, lr ([\d.]+), [\d,]+ images/s, [\d.]+ s"
    r"(, about [\d.]+ s left)?"
)


@pytest.mark.parametrize("bar", [True, False])
def test_a_line_per_epoch(tmp_path, bar, capsys):
    file = io.StringIO()
    # The lines are complete whatever the order of the callbacks.
    callbacks = [*progress_callbacks(file), Throughput()]
    training = trainer(tmp_path, callbacks, max_epochs=3, enable_progress_bar=bar)
    training.fit(SmallModule(), SmallData())
    lines = [LINE.fullmatch(line) for line in file.getvalue().splitlines()]
    assert [line[1] for line in lines] == ["1", "2", "3"]
    assert [line[2] for line in lines] == ["0.1", "0.05", "0.025"]  # those that the epoch was trained with
    assert [line[3] is None for line in lines] == [False, False, True]
    captured = capsys.readouterr()
    assert "Epoch 0" not in captured.out + captured.err  # Lightning's bar
    loss = float(re.search(r"loss ([\d.]+)", lines[2][0])[1])
    assert loss == pytest.approx(float(training.callback_metrics["train/loss"]), rel=1e-3)


def test_no_stale_accuracy_and_no_rate(tmp_path):
    file = io.StringIO()
    trainer(tmp_path, [TrainProgress(file)], max_epochs=3, check_val_every_n_epoch=2).fit(SmallModule(), SmallData())
    first, second, third = file.getvalue().splitlines()
    assert "top-1" not in first
    assert "top-1" in second
    assert "top-1" not in third
    assert "images/s" not in file.getvalue()


def test_lines_within_a_long_epoch(tmp_path, monkeypatch):
    file, clock = io.StringIO(), Clock()
    for module in (throughput, train_progress):
        monkeypatch.setattr(module, "time", clock)

    class Slow(SmallModule):
        def training_step(self, batch, batch_idx):
            clock.sleep(40)
            return super().training_step(batch, batch_idx)

    module = Slow()
    training = trainer(tmp_path, [Throughput(0), TrainProgress(file)], max_epochs=1)
    training.fit(module, SmallData(images=48))
    lines = file.getvalue().splitlines()
    loss = sum(module.losses[:2]) / 2
    assert (
        lines[0]
        == f"epoch 1/1: 2 of 6 batches, loss {loss:.4g}, lr 0.1, 0.2 images/s, 1 min 20 s, about 2 min 40 s left"
    )
    assert [line.split(",")[0] for line in lines[1:3]] == [f"epoch 1/1: {i} of 6 batches" for i in (4, 6)]
    assert lines[3].startswith("epoch 1/1: loss ")
    assert len(lines) == 4


def test_loss_under_accumulation(tmp_path):
    file, module = io.StringIO(), SmallModule()
    callbacks = [TrainProgress(file, every_s=0.0)]
    trainer(tmp_path, callbacks, max_epochs=1, accumulate_grad_batches=3).fit(module, SmallData())
    assert f"1 of 3 batches, loss {module.losses[0]:.4g}," in file.getvalue()


def test_lines_of_a_long_evaluation(tmp_path):
    file = io.StringIO()
    training = trainer(tmp_path, [TrainProgress(file, every_s=0.0)])
    training.validate(SmallModule(), SmallData(), verbose=False)
    training.predict(SmallModule(), SmallData())
    lines = file.getvalue().splitlines()
    assert lines[0] == "validation: 1 of 3 batches"
    assert lines[-1] == "prediction: 3 of 3 batches"


def test_one_process_writes(tmp_path):
    path = tmp_path / "lines"
    with path.open("w") as file:
        trainer(tmp_path, [TrainProgress(file)], max_epochs=2, **TWO_PROCESSES).fit(SmallModule(), SmallData())
    assert len(path.read_text().splitlines()) == 2


def test_bar_on_a_terminal(tmp_path, capsys):
    file = Screen()
    (bar,) = progress_callbacks(file)
    assert isinstance(bar, TrainBar)
    trainer(tmp_path, [bar, Throughput()], enable_progress_bar=True).fit(SmallModule(), SmallData())
    drawn = file.getvalue()
    assert re.search(r"Epoch 1: .*3/3 .*loss=[\d.]+, val top-1=[\d.]+, lr=0.05", drawn)
    assert "v_num" not in drawn
    assert "epoch 1/2" not in drawn
    assert "Epoch" not in capsys.readouterr().out  # standard output is for results


def test_nothing_of_its_own_on_a_terminal(tmp_path):
    file = Screen()
    (lines,) = progress_callbacks(file, enable_progress_bar=False)  # Lightning refuses a bar then
    trainer(tmp_path, [lines]).fit(SmallModule(), SmallData())
    assert file.getvalue() == ""
    bar = TQDMProgressBar()
    trainer(tmp_path, [TrainProgress(file), bar], enable_progress_bar=True, max_epochs=1).fit(
        SmallModule(), SmallData()
    )
    assert bar.is_enabled


class Training:
    def __init__(self, total):
        self.estimated_stepping_batches = total
        self.global_step = 0


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(train_progress.time, "monotonic", lambda: now[0])
    return now


def test_left(clock):
    training, it = Training(100), Pace()
    assert it.left_s(training) is None
    training.global_step = 40  # resumed
    it.start(training)
    assert it.left_s(training) is None
    clock[0] += 20
    training.global_step = 50
    assert it.left_s(training) == 100
    training.global_step = 100
    assert it.left_s(training) == 0


def test_old_epochs_are_forgotten(clock):
    training, it = Training(1000), Pace()
    it.start(training)
    clock[0] += 1000  # compilation
    for _ in range(12):
        training.global_step += 10
        it.mark(training)
        clock[0] += 10
    training.global_step += 10
    assert it.left_s(training) == pytest.approx(1000 - training.global_step)


def test_no_end_in_sight(clock):
    training, it = Training(math.inf), Pace()
    it.start(training)
    training.global_step = 5
    assert it.left_s(training) is None

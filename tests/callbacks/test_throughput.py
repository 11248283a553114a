import pytest
from callback_training import TWO_PROCESSES, Clock, SmallData, SmallModule, trainer
from torch.utils.data import DataLoader, Dataset

from vkdnw_pl.callbacks import read_history, throughput
from vkdnw_pl.callbacks.history import HistoryLogger
from vkdnw_pl.callbacks.throughput import Throughput


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(throughput, "time", made)
    return made


class SlowData(SmallData):
    """An image takes half a second to load."""

    def __init__(self, clock, **options):
        super().__init__(**options)
        self.clock = clock

    def train_dataloader(self):
        return DataLoader(SlowImages(self), batch_size=self.batch_size)


class SlowImages(Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data.images)

    def __getitem__(self, index):
        self.data.clock.sleep(0.5)
        return self.data.images[index], self.data.labels[index]


class SlowModule(SmallModule):
    """A step takes a second, the first one more; a validation step takes 10 s."""

    def __init__(self, clock, first=1.0):
        super().__init__()
        self.clock, self.first = clock, first

    def training_step(self, batch, batch_idx):
        self.clock.sleep(1.0 if self.global_step else self.first)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.clock.sleep(10.0)


def logged(folder, module, data, *callbacks, **options):
    trainer(folder, callbacks, HistoryLogger(folder), **options).fit(module, data)
    return [line for line in read_history(folder) if "epoch_s" in line]


def values(line):
    return tuple(line[name] for name in ("images_per_s", "epoch_s", "loader_wait"))


def test_rate_wait_and_epoch(tmp_path, clock):
    lines = logged(tmp_path, SlowModule(clock), SlowData(clock), Throughput(warmup_steps=0))
    assert len(lines) == 2
    for line in lines:  # 3 batches of 8 images; 3 validation steps are no training
        assert values(line) == pytest.approx((24 / (12 + 3), 12 + 3 + 30, 12 / 15))
        assert "gpu_peak_gib" not in line


def test_warm_up_does_not_count(tmp_path, clock):
    first, second = logged(tmp_path / "one", SlowModule(clock, first=100), SlowData(clock), Throughput(warmup_steps=1))
    assert values(first) == pytest.approx((16 / (8 + 2), 12 + 102 + 30, 0.8))
    assert values(second) == pytest.approx((24 / 15, 45, 0.8))
    # An epoch that is no longer than the warm-up counts whole.
    first, second = logged(tmp_path / "two", SlowModule(clock, first=100), SlowData(clock), Throughput(warmup_steps=3))
    assert values(first) == pytest.approx((24 / (12 + 102), 12 + 102 + 30, 12 / 114))
    assert values(second) == pytest.approx((24 / 15, 45, 0.8))


def test_validation_within_the_epoch_is_excluded(tmp_path, clock):
    data = SmallData()
    (line,) = logged(tmp_path, SlowModule(clock), data, Throughput(0), max_epochs=1, val_check_interval=1)
    assert values(line) == pytest.approx((24 / 3, 3 + 3 * 30, 0))


def test_all_processes_count_and_one_logs(tmp_path, clock):
    data = SlowData(clock, batch_size=4)
    lines = logged(tmp_path, SlowModule(clock), data, Throughput(0), **TWO_PROCESSES)
    assert len(lines) == 2
    # Of 24 images each process has 3 batches of 4, and loads them at the same time.
    assert values(lines[1])[0] == pytest.approx(24 / (6 + 3))


def test_an_epoch_that_ends_twice_is_logged_once():
    Throughput().on_train_epoch_end(None, None)  # touches neither trainer nor module


def test_gpu_is_awaited_where_the_training_pauses_only(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(throughput, "_synchronise", lambda module: calls.append(module.global_step))
    logged(tmp_path, SmallModule(), SmallData(), Throughput(warmup_steps=1), max_epochs=2)
    assert calls == [1, 3, 6]  # after the warm-up, and before each validation


def test_wrong_option():
    with pytest.raises(ValueError, match="warmup_steps=-1 is not allowed"):
        Throughput(-1)

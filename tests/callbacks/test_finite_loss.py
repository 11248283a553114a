import pickle

import pytest
import torch
from callback_training import SmallData, SmallModule, trainer
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

from vkdnw_pl.callbacks.finite_loss import FiniteLoss, NonFiniteLoss


class Deferred(FiniteLoss):
    """As on a GPU: the answer for a step is read when the next one starts."""

    @staticmethod
    def _deferred(loss):
        return True


class Spoil(Callback):
    """The weights become NaN in a step whose loss was finite, as by an overflow in the backward pass."""

    def __init__(self, step):
        self.step = step

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.step:
            next(pl_module.parameters()).grad.fill_(float("nan"))


def fit(folder, *callbacks, spoil_step=-1, **options):
    module = SmallModule(spoil_step=spoil_step)
    trainer(folder, callbacks, **{"max_epochs": 3, **options}).fit(module, SmallData())
    return module


@pytest.mark.parametrize("kind", [FiniteLoss, Deferred])
def test_names_and_keeps_the_batch(tmp_path, kind):
    with pytest.raises(NonFiniteLoss) as caught:
        fit(tmp_path, kind(), spoil_step=4)
    error = caught.value
    assert (error.epoch, error.step, error.file) == (1, 4, tmp_path / "nonfinite_batch_rank0.pt")
    for part in ("loss is nan at epoch 1, step 4 (batch 1 ", str(error.file), "learning rate", "precision", "32-true"):
        assert part in str(error)
    kept = torch.load(error.file, weights_only=True)
    data = SmallData()
    assert torch.equal(kept["images"], data.images[8:16])
    assert torch.equal(kept["labels"], data.labels[8:16])
    assert {name: kept[name] for name in ("epoch", "step", "batch_idx", "rank")} == dict(
        epoch=1, step=4, batch_idx=1, rank=0
    )
    assert all(value != value for name, value in kept["losses"].items() if name == "loss")
    assert pickle.loads(pickle.dumps(error)).step == 4


def test_parts_of_the_loss(tmp_path):
    with pytest.raises(NonFiniteLoss):
        fit(tmp_path, Deferred(), spoil_step=1)
    losses = torch.load(tmp_path / "nonfinite_batch_rank0.pt", weights_only=True)["losses"]
    assert set(losses) == {"loss", "loss_ce"}  # what training_step returned


def test_cpu_stops_before_the_weights_break(tmp_path):
    module = SmallModule(spoil_step=2)
    with pytest.raises(NonFiniteLoss):
        trainer(tmp_path, [FiniteLoss()]).fit(module, SmallData())
    assert all(torch.isfinite(weight).all() for weight in module.parameters())


def test_a_good_training_is_left_alone(tmp_path):
    without = fit(tmp_path, max_epochs=1)
    for guard in (FiniteLoss(), Deferred(), FiniteLoss(every_n_steps=2)):
        assert fit(tmp_path, guard, max_epochs=1).losses == without.losses
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("kind", [FiniteLoss, Deferred])
@pytest.mark.parametrize(
    "when",
    [
        {"save_on_exception": True},
        {"save_on_exception": True, "every_n_train_steps": 1},
        {"every_n_train_steps": 1, "save_weights_only": True},
        {"save_on_train_epoch_end": False},
    ],
    ids=lambda when: "-".join(when),
)
@pytest.mark.parametrize("spoil_step", [4, 5])  # within an epoch, and the last of one
def test_last_good_checkpoint_stays(tmp_path, kind, when, spoil_step):
    checkpoint = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False, **when)
    with pytest.raises(NonFiniteLoss, match="the training loss is nan"):
        fit(tmp_path, checkpoint, kind(), spoil_step=spoil_step)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == (spoil_step if "every_n_train_steps" in when else 3)
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


@pytest.mark.parametrize("when", [{}, {"save_on_train_epoch_end": False}, {"save_weights_only": True}])
def test_broken_weights_after_a_finite_loss(tmp_path, when):
    checkpoint = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False, **when)
    with pytest.raises(NonFiniteLoss, match=r"a weight is not finite .* epoch 1, step 5"):
        fit(tmp_path, checkpoint, FiniteLoss(), Spoil(5))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 3
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_saving_on_other_exceptions_stays_on(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, filename="last", save_on_exception=True)

    class Stop(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 2:
                raise RuntimeError("stop")

    guard = FiniteLoss()
    with pytest.raises(RuntimeError, match="stop"):
        fit(tmp_path / "a", checkpoint, guard, Stop())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    with pytest.raises(NonFiniteLoss):
        fit(tmp_path / "b", checkpoint, guard, spoil_step=1)
    assert checkpoint.save_on_exception is False
    fit(tmp_path / "c", checkpoint, guard, max_epochs=1)
    assert checkpoint.save_on_exception is True


def test_every_nth_step(tmp_path):
    with pytest.raises(NonFiniteLoss, match="step 2"):  # the loss of batch 1 is not looked at, but its weights break
        fit(tmp_path, FiniteLoss(every_n_steps=2), spoil_step=1)
    with pytest.raises(ValueError, match="every_n_steps=0 is not allowed"):
        FiniteLoss(0)

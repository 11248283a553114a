"""Two processes train as one with the same global batch."""

import json

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from vkdnw_pl.data import Digits
from vkdnw_pl.training.module import TrainingModule

STEPS = 8


class Losses(Callback):
    """Writes the loss of the global batch at each step, and what was evaluated."""

    def __init__(self, file):
        self.file = file
        self.losses = []
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        loss = outputs["loss"].detach().clone()
        self.losses.append(float(trainer.strategy.reduce(loss, reduce_op="mean")))

    def on_validation_epoch_start(self, trainer, pl_module):
        self.seen = []

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen += [len(batch[1])]

    def on_train_end(self, trainer, pl_module):
        seen = pl_module.all_gather(torch.tensor(sum(self.seen)))
        if trainer.is_global_zero:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
            metrics.pop("train/loss_step")  # of the first process only
            self.file.write_text(json.dumps([self.losses, int(seen.sum()), metrics]))


def train(folder, devices, arch, **network):
    data = Digits(batch_size=24 // devices, val_size=51, image_size=32, num_workers=0)  # 51: one process has one more
    module = TrainingModule(
        arch,
        num_classes=10,
        input_size=data.input_size,
        network=network,
        channels_last=False,
        seed=3,
        label_smoothing=0.1,
    )
    folder.mkdir()
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        precision="64-true",
        max_steps=STEPS,
        max_epochs=-1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[Losses(folder / "losses.json")],
        val_check_interval=4,
    )
    trainer.fit(module, datamodule=data)
    return json.loads((folder / "losses.json").read_text())


@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_as_one(tmp_path):
    losses, seen, metrics = train(tmp_path / "one", 1, "test_convnext")  # layer norm: no sample sees another
    two_losses, two_seen, two_metrics = train(tmp_path / "two", 2, "test_convnext")
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    assert two_losses == pytest.approx(losses, rel=1e-6)
    assert two_seen == seen == 51
    assert two_metrics == pytest.approx(metrics, rel=1e-6)
    assert {"val/top1", "val/loss", "val/top5"} <= set(metrics)

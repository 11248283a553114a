"""A training that takes a moment, for the tests of the callbacks."""

from __future__ import annotations

import random
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vkdnw_pl.data.batches import Batch

warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
SIZE, CLASSES = (3, 8, 8), 4


class SmallNetwork(nn.Sequential):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        )


class SmallModule(LightningModule):
    """Logs what `training.module` does, under the same names."""

    def __init__(self, lr: float = 0.1, dropout: float = 0.0, spoil_step: int = -1) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(3)
        self.network: nn.Module = SmallNetwork(dropout)
        self.arch, self.space = "small", "none"
        self.num_classes, self.input_size, self.seed = CLASSES, SIZE, 0
        self.losses: list[float] = []

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        if self.global_step == self.hparams.spoil_step:
            loss = loss * float("nan")
        self.losses.append(loss.item())
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return {"loss": loss, "loss_ce": loss.detach()}

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.network(images)
        self.log("val/loss", F.cross_entropy(logits, labels))
        self.log("val/top1", 100.0 * (logits.argmax(1) == labels).float().mean())
        self.log("val/top5", 100.0)

    def predict_step(self, batch, batch_idx):
        return {"logits": self.network(batch[0]), "labels": batch[1]}

    def on_train_epoch_end(self):
        self.log("lr", self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), self.hparams.lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


class SmallData(LightningDataModule):
    def __init__(self, images: int = 24, batch_size: int = 8, shuffle: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(images, *SIZE, generator=generator)
        self.labels = torch.randint(CLASSES, (images,), generator=generator)
        self.batch_size, self.shuffle = batch_size, shuffle
        self.asked: list[tuple[int, int, int]] = []

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.images, self.labels), batch_size=self.batch_size, shuffle=self.shuffle)

    def val_dataloader(self):
        return DataLoader(TensorDataset(self.images, self.labels), batch_size=self.batch_size)

    predict_dataloader = val_dataloader

    def proxy_batch(self, batch_size, seed=1, index=0):
        self.asked.append((batch_size, seed, index))
        torch.rand(3), random.random(), np.random.rand()  # a careless data module
        places = torch.arange(batch_size) + index
        return Batch(self.images[places], self.labels[places])


def trainer(folder, callbacks=(), logger=False, **options) -> Trainer:
    given = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **options,
    }
    return Trainer(default_root_dir=str(folder), callbacks=list(callbacks), logger=logger, **given)


class Clock:
    """Stands in for the module `time`: it goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter

    def sleep(self, seconds: float) -> None:
        self.now += seconds


TWO_PROCESSES = {"strategy": "ddp_fork", "devices": 2}

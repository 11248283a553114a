"""Trains a found, a random and a timm network with several recipes, 12 epochs each: what makes deep thin networks learn.

    python benchmarks/small_data/recipes.py PICTURES recipes.csv    # PICTURES: the folder that pictures.py made

Appends a row for each training, and leaves out those that are there. Rows also have the gradient norm of the first step
and the validation loss after the first epoch.
"""

import argparse
import csv
import logging
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from vkdnw_pl.data.image_folder import ImageFolder
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.optimizer import OptimizerOptions, ScheduleOptions

EPOCHS = 12
SEED = 0


def adamw(lr: float, **options: Any) -> dict[str, Any]:
    optimizer = OptimizerOptions(name="adamw", lr=lr, lr_batch_size=None, weight_decay=0.05)
    return {"optimizer": optimizer, "schedule": ScheduleOptions(warmup_epochs=3), "label_smoothing": 0.1, **options}


RECIPES: dict[str, dict[str, Any]] = {
    "defaults of fit": {},
    "mbv2_imnet_150ep": {
        "init": "kaiming_normal",
        "zero_gamma": True,
        "bn_momentum": 0.01,
        "optimizer": OptimizerOptions(lr=0.4),
        "schedule": ScheduleOptions(warmup_epochs=5),
        "label_smoothing": 0.1,
    },
    "SGD, linear start": {"schedule": ScheduleOptions(warmup_epochs=3), "label_smoothing": 0.1, "linear_start": True},
    "AdamW 0.002": adamw(0.002),
    "AdamW 0.002, zero gamma": adamw(0.002, zero_gamma=True),
    "AdamW 0.002, linear start": adamw(0.002, linear_start=True),
    "AdamW 0.004": adamw(0.004),
    "AdamW 0.004, linear start": adamw(0.004, linear_start=True),
    "AdamW 0.008": adamw(0.008),
    "AdamW 0.008, linear start": adamw(0.008, linear_start=True),
}
FIELDS = ("recipe", "arch", "test_top1", "train_top1", "first_gradient_norm", "first_val_loss", "largest_val_loss")


class Watch(Callback):
    """Keeps the gradient norm of the first step and all validation losses."""

    def __init__(self) -> None:
        self.gradient_norm: float | None = None
        self.val_losses: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        if self.gradient_norm is None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self.gradient_norm = float(torch.nn.utils.get_total_norm(gradients))

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.val_losses.append(float(trainer.callback_metrics["val/loss"]))


def train(pictures: Path, recipe: str, arch: str) -> dict[str, float]:
    data = ImageFolder(
        str(pictures), image_size=64, crop_pct=1.0, crop_scale=0.5, color_jitter=0.2, batch_size=32, eval_batch_size=100
    )
    module = TrainingModule(
        arch, num_classes=data.num_classes, input_size=data.input_size, channels_last=True, seed=SEED, **RECIPES[recipe]
    )
    watch = Watch()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[watch], num_sanity_val_steps=0, **quiet)
    trainer.fit(module, data)
    train_top1 = float(trainer.callback_metrics["train/top1"])
    trainer.test(module, data, verbose=False)
    test_top1 = float(trainer.callback_metrics["test/top1"])
    values = test_top1, train_top1, watch.gradient_norm, watch.val_losses[0], max(watch.val_losses)
    return dict(zip(FIELDS[2:], values, strict=True))


def main(pictures: Path, out: Path) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with (Path(__file__).with_name("archs.csv")).open(encoding="utf-8", newline="") as file:
        archs = {row["name"]: row["arch"] for row in csv.DictReader(file)}
    archs["mobilenetv2_075"] = "mobilenetv2_075"
    done = set()
    if out.is_file():
        with out.open(encoding="utf-8", newline="") as file:
            done = {(row["recipe"], row["arch"]) for row in csv.DictReader(file)}
    for recipe, options in RECIPES.items():
        for name in ("vkdnw_agg_0", "random", "mobilenetv2_075"):
            start = {"zero_gamma", "linear_start"} & options.keys()
            if (recipe, name) in done or (start and name == "mobilenetv2_075"):  # its blocks know neither
                continue
            row = {"recipe": recipe, "arch": name, **train(pictures, recipe, archs[name])}
            fresh = not out.is_file()
            with out.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    main(arguments.pictures, arguments.out)

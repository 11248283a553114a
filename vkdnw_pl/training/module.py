"""The LightningModule that ``fit`` trains: any network, with or without a teacher."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from vkdnw_pl.callbacks.checkpoints import ExactResume
from vkdnw_pl.callbacks.lightning_private import logs_this_step
from vkdnw_pl.errors import UsageError, check_number
from vkdnw_pl.networks.init import Init, initialise, start_linear, zero_residual_gammas
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.spaces.base import check_imported
from vkdnw_pl.spaces.resolve import AUTO, resolve_arch
from vkdnw_pl.training.batches import check_batch
from vkdnw_pl.training.exported import check_network_facts, read_checkpoint
from vkdnw_pl.training.image_record import (
    ImageRecord,
    check_image_record,
    check_same_classes,
    check_same_held_out,
    image_record,
)
from vkdnw_pl.training.losses import Distillation, in_full_precision, mixup, smooth_targets
from vkdnw_pl.training.optimizer import (
    OptimizerOptions,
    ScheduleOptions,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
    scaled_lr,
)
from vkdnw_pl.training.start_weights import load_start_weights
from vkdnw_pl.training.teacher import TeacherOptions

_STEEP = 500.0
"""Gradient norm of the first step above which networks did not learn (benchmarks/small_data); of those that did: up to 100."""
Options = TypeVar("Options", OptimizerOptions, ScheduleOptions, TeacherOptions)


class TrainingModule(LightningModule):
    """Trains one network for image classification.

    Args:
        arch: Network: an architecture string of a space, the name of one (mbv2_480m), a found.json (found.json#2 for its
            second best network), or a model of timm.
        space: Its search space, or auto.
        network: Options of its network, such as '{use_se: true}'; for timm those of create_model.
        num_classes: Number of logits; comes from the data module.
        input_size: Channels, height and width of the images; comes from the data module.
        student_size: The network sees images resized (bilinear) to this many pixels, for example because the teacher
            needs larger ones; null leaves them as they come.
        init: Initialisation of the weights: pytorch (the constructors'), kaiming_normal, zennas, gaussian, or keep (as
            built after torch.manual_seed(seed); for pretrained ones).
        zero_gamma: Every residual branch begins as zero: the weight of its last batch norm is 0.
        linear_start: Residual blocks begin as their shortcuts and next to linear, so that deep thin networks of mbv2 learn
            from the first step; networks without such blocks, and weights that are kept, begin as init says.
        bn_momentum: Momentum of every batch norm's running statistics; null keeps the network's own.
        weights: Checkpoint, exported network or state dict to start from instead of the initialisation; of a network with
            another number of classes, all but the classifier.
        optimizer: How the weights are changed.
        schedule: How the learning rate goes.
        label_smoothing: Share of the target that is spread evenly over all classes.
        mixup: Alpha of mixup's Beta distribution; 0 for none.
        teacher: Trained timm network to learn from; null for none.
        channels_last: Memory order of weights and maps; faster on GPUs with tensor cores.
        compile: Run the network through torch.compile.
        seed: Of the initialisation and of everything random in a step; comes from seed_everything.
    """

    def __init__(
        self,
        arch: str,
        space: str = AUTO,
        network: dict[str, Any] | None = None,
        num_classes: int = 1000,
        input_size: Sequence[int] = (3, 224, 224),
        student_size: int | None = None,
        init: Init = "pytorch",
        zero_gamma: bool = False,
        linear_start: bool = False,
        bn_momentum: float | None = None,
        weights: str | None = None,
        optimizer: OptimizerOptions = OptimizerOptions(),  # noqa: B008  (only read)
        schedule: ScheduleOptions = ScheduleOptions(),  # noqa: B008
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        teacher: TeacherOptions | None = None,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_number("model.label_smoothing", label_smoothing, 0, 1, open_high=True)
        check_number("model.mixup", mixup, 0, inf, open_high=True)
        if bn_momentum is not None:
            check_number("model.bn_momentum", bn_momentum, 0, 1)
        self.optimizer_options = _options(OptimizerOptions, optimizer)
        self.schedule_options = _options(ScheduleOptions, schedule)
        self.teacher_options = None if teacher is None else _options(TeacherOptions, teacher)
        resolved = resolve_arch(arch, space)
        self.arch, self.space, self.seed, self.num_classes = resolved.arch, resolved.space, seed, num_classes
        self.network_options: dict[str, Any] = {**resolved.network, **(network or {})}
        # Plain values, so that a checkpoint can be read with weights_only=True, and the network itself, so that it does
        # not hang on a file that may change.
        self.save_hyperparameters(
            {
                "arch": self.arch,
                "space": self.space,
                "network": self.network_options,
                "num_classes": num_classes,
                "input_size": list(input_size),
                "student_size": student_size,
                "init": init,
                "zero_gamma": zero_gamma,
                "linear_start": linear_start,
                "bn_momentum": bn_momentum,
                "weights": weights,
                "optimizer": asdict(self.optimizer_options),
                "schedule": asdict(self.schedule_options),
                "label_smoothing": label_smoothing,
                "mixup": mixup,
                "teacher": self.teacher_options and asdict(self.teacher_options),
                "channels_last": channels_last,
                "compile": compile,
                "seed": seed,
            }
        )
        channels, height, width = input_size
        size = (height, width) if student_size is None else (student_size, student_size)
        self.input_size = (channels, *size)
        self.image_record: ImageRecord | None = None
        self._held_out: str | None = None
        self.label_smoothing, self.mixup, self.channels_last = label_smoothing, mixup, channels_last
        self._compile = compile
        self.network = self._build_network(init, zero_gamma, linear_start, bn_momentum)
        if weights is not None:
            load_start_weights(self.network, Path(weights), num_classes)
        self.distillation: Distillation | None = None
        if self.teacher_options is not None:
            teacher_seed = self._seed_of("teacher")
            self.distillation = Distillation(
                self.teacher_options, self.network, self.input_size, num_classes, teacher_seed
            )
        self._make_optimizer(self.optimizer_options.lr)  # refuses now what it could not do later
        # One state for each kind of evaluation; top-5 of fewer than five classes is all of them.
        self.measured = nn.ModuleDict({f"{stage}_images": self._make_measures() for stage in ("train", "val", "test")})

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> TrainingModule:  # type: ignore[override]
        """As Lightning's, of a file that is whole, is read without running code from it, and names no code to be run."""
        path = Path(checkpoint_path)
        where = f"checkpoint_path={str(path)!r}, hyper_parameters,"
        facts: Any = read_checkpoint(path).get("hyper_parameters")
        check_network_facts(facts, where, ("arch", "space"))
        check_imported(str(kwargs.get("space", facts["space"])), where)
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the logits, where data module or checkpoint say them."""
        names = None if self.image_record is None else self.image_record["class_names"]
        return None if names is None else tuple(names)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.image_record is not None:
            checkpoint["image_record"] = self.image_record
        if self._held_out is not None:
            checkpoint["held_out"] = self._held_out

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what goes with the network, unless the images here are of other classes: a ``UsageError``.

        So are images of which some that are evaluated may have been trained on.
        """
        check_same_held_out(checkpoint.get("held_out"), self._held_out)
        saved = checkpoint.get("image_record")
        if saved is None:  # an older one, or of a data module that Lightning did not know
            return
        check_image_record(saved, self.num_classes, "image_record of the checkpoint")
        check_same_classes(saved.get("class_names"), self.class_names)
        known = {name: value for name, value in (self.image_record or {}).items() if value is not None}
        self.image_record = {**saved, **known}

    def setup(self, stage: str) -> None:
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.image_record = image_record(data, self.num_classes)
            evaluates_held_out = stage not in ("test", "predict") or getattr(data, "validates_on_test", False)
            self._held_out = getattr(data, "held_out", None) if evaluates_held_out else None
        if self.trainer.precision == "64-true":
            self.double()  # before a checkpoint is loaded: Lightning would round it to float32 on the way
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if stage == "fit" and self.distillation is not None:
            self.distillation.prepare(self.device, getattr(data, "image_statistics", None))
        if self._compile:
            self.network.compile()  # in place: names of weights stay
            if stage == "fit" and self.distillation is not None:
                self.distillation.compile()

    def configure_callbacks(self) -> list[Callback]:
        return [ExactResume()]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W), which are resized to the network's size."""
        return self.network(self._student_images(images))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._check_batch(batch, batch_idx)
        # Dropout and the like become a function of seed, epoch, batch and process, so that a resumed run draws the same.
        seed = self._seed_of(f"step {self.current_epoch} {batch_idx} {self.global_rank}")
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 1 ms more, for GPUs that are not used
        else:
            torch.manual_seed(seed)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        stream = f"mixup {self.current_epoch} {batch_idx} {self.global_rank}"
        parts, logits = self.losses(images, labels, torch.Generator().manual_seed(self._seed_of(stream)))
        loss = sum(parts.values(), start=torch.zeros((), device=images.device))
        self._log_step(loss.detach(), parts, logits.detach(), labels)
        return loss

    def losses(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Parts of the training loss, whose sum it is, and the logits, of images (B, C, H, W) and labels (B,)."""
        targets = labels
        if self.mixup or self.label_smoothing:
            targets = smooth_targets(labels, self.num_classes, self.label_smoothing)
        if self.mixup:
            images, targets = mixup(images, targets, self.mixup, generator)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        student = self._student_images(images)
        parts: dict[str, Tensor] = {}
        if self.distillation is None:
            logits = self.network(student)
        else:
            logits, parts = self.distillation(self.network, student, images)
        wide = in_full_precision(logits)
        parts["ce"] = F.cross_entropy(wide, targets.to(wide.dtype) if targets.is_floating_point() else targets)
        return parts, logits

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        first, logged = self.trainer.global_step == 0, logs_this_step(self.trainer)
        if not first and not logged:
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)  # before it is clipped
        if logged:
            self.log("grad_norm", norm)
        blocks_can = any(hasattr(module, "start_linear") for module in self.network.modules())
        if first and blocks_can and not self.hparams["linear_start"] and norm > _STEEP:
            rank_zero_only(print)(
                f"note: the gradient norm of the first step is {float(norm):,.0f}: such a network may learn nothing; "
                "--model.linear_start true is a better beginning for it (docs/small_data.md)",
                file=sys.stderr,
            )

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._check_batch(batch, batch_idx)
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._check_batch(batch, batch_idx)
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        self._check_batch(batch, batch_idx, labelled=False)
        images, labels = batch
        return {"logits": self(images), "labels": labels}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options, schedule = self.optimizer_options, self.schedule_options
        self.trainer.fit_loop.setup_data()  # the numbers below need the loader
        if self.trainer.estimated_stepping_batches == float("inf"):
            raise UsageError("the training has no end: give trainer.max_epochs or trainer.max_steps")
        total_steps, num_batches = int(self.trainer.estimated_stepping_batches), int(self.trainer.num_training_batches)
        loader = self.trainer.train_dataloader
        batch_size = getattr(loader, "batch_size", None)
        if batch_size is None and options.lr_batch_size is not None:
            raise UsageError("the loader has no batch_size to scale model.optimizer.lr by; set lr_batch_size=null")
        global_batch = (batch_size or 1) * self.trainer.world_size * self.trainer.accumulate_grad_batches
        steps_per_epoch = max(1, -(-num_batches // self.trainer.accumulate_grad_batches))
        optimizer = self._make_optimizer(scaled_lr(options.lr, options.lr_batch_size, global_batch))
        warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
        trainer: Any = self.trainer
        if trainer.fast_dev_run:
            warmup_steps = 0
        if schedule.name == "cosine" and warmup_steps >= total_steps:
            raise UsageError(
                f"model.schedule.warmup_epochs={schedule.warmup_epochs:g} is not allowed: the whole training has "
                f"{total_steps / steps_per_epoch:g} epoch(s); give --model.schedule.warmup_epochs 0 or train longer"
            )
        factor = learning_rate_factor(schedule.name, total_steps, warmup_steps, steps_per_epoch)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        options = self.optimizer_options
        trained = [self.network, *([] if self.distillation is None else [self.distillation])]
        groups = parameter_groups(trained, options.weight_decay, options.decay)
        return make_optimizer(groups, options.name, lr=lr, momentum=options.momentum, **options.extra)

    def _build_network(self, init: Init, zero_gamma: bool, linear_start: bool, bn_momentum: float | None) -> nn.Module:
        options = {"num_classes": self.num_classes, "image_size": self.input_size[1], "in_channels": self.input_size[0]}
        if self.input_size[1] != self.input_size[2]:
            raise UsageError(f"input_size={self.input_size} is not allowed: images must be square")
        if taken := [name for name in options if name in self.network_options]:
            raise ValueError(
                f"model.network has {taken[0]!r}, which comes from the data module: leave it out (or give "
                "model.student_size)"
            )
        if self.network_options.get("pretrained") and init != "keep":
            raise UsageError(
                f"model.init={init!r} would overwrite the weights of pretrained: true; give --model.init keep"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed if init == "keep" else self._seed_of("network"))
            network = SPACES[self.space].build(self.arch, **options, **self.network_options)
        initialise(network, init, self._seed_of("weights"))
        if zero_gamma:
            zero_residual_gammas(network)
        if linear_start and init != "keep":
            start_linear(network)
        if bn_momentum is not None:
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.momentum = bn_momentum
        return network

    def _student_images(self, images: Tensor) -> Tensor:
        size = self.input_size[1:]
        if images.shape[-2:] == size:
            return images
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False)

    def _check_batch(self, batch: Any, batch_idx: int, *, labelled: bool = True) -> None:
        # Labels on a GPU would have to be waited for at every step; a wrong one in a later batch ends in CUDA's own error.
        labelled = labelled and (self.device.type == "cpu" or batch_idx == 0)
        check_batch(batch, self.hparams["input_size"], self.num_classes, labelled=labelled)

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = in_full_precision(self(images))
        self._measure(stage, F.cross_entropy(logits, labels), logits, labels)

    def _log_step(self, loss: Tensor, parts: Mapping[str, Tensor], logits: Tensor, labels: Tensor) -> None:
        self._measure("train", loss, logits, labels)
        self.log("train/loss_step", loss, prog_bar=True)
        for name, part in parts.items() if len(parts) > 1 else ():
            self.log(f"train/loss_{name}", part.detach())
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    def _measure(self, stage: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        measures: Any = self.measured[f"{stage}_images"]
        measures["loss"].update(loss, weight=len(labels))
        for name in ("top1", "top5"):
            measures[name].update(logits, labels)

    def _log_epoch(self, stage: str) -> None:
        measures: Any = self.measured[f"{stage}_images"]
        for name, measure in measures.items():
            percent = 1 if name == "loss" else 100
            self.log(f"{stage}/{name}", percent * measure.compute(), prog_bar=stage != "train")
            measure.reset()

    def _make_measures(self) -> nn.ModuleDict:
        def accuracy(k: int) -> MulticlassAccuracy:
            k = min(k, self.num_classes)
            return MulticlassAccuracy(self.num_classes, top_k=k, average="micro", validate_args=False)

        return nn.ModuleDict({"loss": MeanMetric(), "top1": accuracy(1), "top5": accuracy(5)})

    def _seed_of(self, purpose: str) -> int:
        """A seed for one purpose, a pure function of the run's seed."""
        return zlib.crc32(f"{self.seed} {purpose}".encode())


def _options(kind: type[Options], options: Options | Mapping[str, Any]) -> Options:
    """The options themselves, or made from a checkpoint's plain values."""
    return kind(**options) if isinstance(options, Mapping) else options

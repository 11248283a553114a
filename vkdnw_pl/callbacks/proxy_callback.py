"""Zero-cost scores of the network that is trained, beside its training."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn

from vkdnw_pl.callbacks.lightning_private import initial_hparams, loads_itself
from vkdnw_pl.callbacks.training_facts import classes_of, images_of, network_of, serve_other_lightning, size_of
from vkdnw_pl.data.batches import Batch, Batches, Source, batches
from vkdnw_pl.errors import check_whole, why
from vkdnw_pl.networks.init import Init
from vkdnw_pl.networks.private_copy import private_copy
from vkdnw_pl.options import ProxyOptions
from vkdnw_pl.proxies.base import Proxy
from vkdnw_pl.proxies.scoring import Images, release_freed_memory, score_network
from vkdnw_pl.ranking.needed import refuse_for_one
from vkdnw_pl.runs.files import write_csv
from vkdnw_pl.runs.table import FAILED, OK, ScoreRow, ScoreTable, read_table, write_table

SCORES, DRIFT = "scores.csv", "proxy_drift.csv"
MODULE = "module"
"""As a source of images: the data module of the training."""

ProxyValues = dict[str, Any]
"""``values`` (column -> value or None), ``reasons`` (column -> text), ``failed``, ``seconds``, as plain as a checkpoint
that ``weights_only`` reads must be."""


class ProxyCallback(Callback):
    """Computes proxies on the network before its first training step, and on request as it trains.

    In any Trainer, of ``pytorch_lightning`` or of ``lightning.pytorch`` (import that first), with any module: the network
    is ``pl_module.network`` (logits (B, K)), or the module itself where it has none and its ``forward`` maps one tensor to
    logits. The shape of an input is ``input_size`` of the module or of the data module, else that of an image of the
    training's loader; the number of classes is their ``num_classes``, else the number of logits. An ``arch`` of the module
    names it in the table.

    The scores go to every logger (hyper-parameters ``proxy/<name>``, metrics of step 0, on Weights & Biases the summary),
    with all their columns into ``scores.csv`` of the run folder (``trainer.default_root_dir``), and into the checkpoints,
    so that a resumed training has them. Nothing of the training changes: proxies work on copies, and every random stream
    goes on as it would have. Of several processes the first computes. A proxy that fails or is undefined leaves its
    reason, and the training goes on.

    With ``init="auto"`` the values are those that ``score`` gives for the same architecture, seed, batch size and
    images, to the last bit on the same hardware (but for parameters that only constructors draw, such as class tokens:
    see ``networks.init.initialise``).

    Args:
        proxies: names, or mappings with ``name`` and parameters, see ``vkdnw_pl.proxies.make_proxies``.
        batch_size: images per batch.
        seed: of the images, of the initialisation and of the proxies' random draws.
        init: ``auto`` initialises the copies as each proxy is defined; ``keep`` takes the weights that the training
            starts with; ``kaiming_normal``, ``gaussian``, ``zennas`` and ``pytorch`` initialise all copies so.
        every_n_epochs: with n > 0 the proxies also on the weights as they are, before the training and at the end of
            every n-th epoch: logged as ``proxy_drift/<name>``, and in ``proxy_drift.csv`` of the run folder with
            ``epoch`` and ``step``, the epochs and optimizer steps behind. Exponential averages of the weights are not
            looked at.
        input: images for proxies that take any, of the network's input size: ``random``, ``digits``, a file or a data
            module, see ``vkdnw_pl.data.batches.image_batch``; or ``module``, the images of the training: those of the data
            module's ``proxy_batch``, else of the training's loader, as ``vkdnw_pl.score`` draws them.
        data: the same for proxies that are defined on real images.

    Raises:
        ValueError: for an unknown proxy, parameter or initialisation, naming the option; and as the training begins, for
            a module that is no network, or images that cannot be had.
    """

    def __init__(
        self,
        proxies: list[str | dict[str, Any]] = ["vkdnw", "aleph", "macs", "params"],  # noqa: B006  (only read)
        batch_size: int = 16,
        seed: int = 1,
        init: str = "auto",
        every_n_epochs: int = 0,
        input: str | dict[str, Any] = "random",
        data: str | dict[str, Any] = MODULE,
    ) -> None:
        serve_other_lightning(type(self))
        refuse_for_one(proxies)
        options = ProxyOptions(proxies=list(proxies), batch_size=batch_size, init=init, input=input, data=data)
        self.proxies = options.make_proxies()
        check_whole("seed", seed, 0)
        check_whole("every_n_epochs", every_n_epochs, 0)
        # The drift is that of the weights as they are, also for a proxy that asks for another initialisation.
        self._on_own_weights = [copy.copy(proxy) for proxy in self.proxies]
        for proxy in self._on_own_weights:
            proxy.protocol = replace(proxy.protocol, init=None)
        self.columns = tuple(column for proxy in self.proxies for column in proxy.table_columns)
        self._scores = [proxy.table_columns[0] for proxy in self.proxies]  # without what belongs to them
        self.batch_size, self.seed, self.every_n_epochs = batch_size, seed, every_n_epochs
        self.init = cast(Init | Literal["auto"], init)
        self.input, self.data = input, data
        self._before: ProxyValues | None = None
        self._new = self._resumed = False
        self._drift: list[dict[str, Any]] = []
        self._told: set[str] = set()

    @property
    def values(self) -> dict[str, float | None]:
        """Column -> value before the training; empty before they are computed."""
        return {} if self._before is None else dict(self._before["values"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module that is no network, images that cannot be had, and a folder with another table."""
        if stage != "fit":
            return
        if trainer.global_step == 0:
            self._before, self._drift, self._told = None, [], set()
            self._new = self._resumed = False
        network_of(pl_module)
        if not loads_itself(trainer, pl_module):  # else it is set up after its callbacks
            self._check_images(trainer, pl_module)
        table = Path(trainer.default_root_dir) / SCORES
        if table.exists() and (rows := len(read_table(table).rows)) > 1:
            raise ValueError(
                f"{table} holds the scores of {rows} networks, which those of this training would replace; give the "
                "training a folder of its own (trainer.default_root_dir)"
            )

    def _check_images(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with isolate_rng(include_cuda=False):
            for option, kind in (("input", "images"), ("data", "data")):
                if any(proxy.input == kind for proxy in self.proxies):
                    try:
                        self._batches(option, trainer, pl_module)(0)
                    except ValueError as error:
                        raise ValueError(f"{option}={getattr(self, option)!r} is not allowed: {error}") from None

    def state_dict(self) -> dict[str, Any]:
        if self._before is None:
            return {}
        return {"settings": self._settings(), "found": self._before, "drift": self._drift}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not state_dict:
            return
        self._drift = list(state_dict["drift"])
        # Weights that are initialised anew have not changed since; so other proxies can be computed as well now.
        if state_dict["settings"] == self._settings():
            self._before = dict(state_dict["found"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._resumed = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if loads_itself(trainer, pl_module):
            self._check_images(trainer, pl_module)
        if self._before is None:
            if self._resumed and self.init == "keep":
                reason = "the training was resumed, so the weights that it started with are gone"
                self._before = no_values(self.columns, reason)
            else:
                self._before = self._compute(trainer, pl_module, self.proxies, self.init)
            self._new = True
            if trainer.is_global_zero:
                values, seconds = self._before["values"], self._before["seconds"]
                scores = ((name, values[name]) for name in self._scores)
                text = ", ".join(f"{name} {'-' if value is None else f'{value:.6g}'}" for name, value in scores)
                _say(f"proxies before training: {text} ({seconds:.1f} s)")
                self._tell_reasons(self._before["reasons"])
        if self.every_n_epochs and not self._resumed and not self._drift:
            self._add_drift(trainer, pl_module, epoch=0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not before: Lightning logs the module's own hyper-parameters in between, and a logger may replace.
        if not trainer.is_global_zero or self._before is None:
            return
        self._log_scores(trainer, pl_module, self._before)
        self._write_scores(trainer, pl_module, self._before)
        if self.every_n_epochs:
            if self._drift and not self._resumed:
                self._log_drift(trainer, self._drift[0])
            self._write_drift(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if not self.every_n_epochs or epoch % self.every_n_epochs:
            return
        self._add_drift(trainer, pl_module, epoch)
        if trainer.is_global_zero:
            self._log_drift(trainer, self._drift[-1])
            self._write_drift(trainer)

    def _settings(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("batch_size", "seed", "init", "input", "data")}
        return {"proxies": [proxy.record() for proxy in self.proxies], **options}

    def _batches(self, option: str, trainer: Trainer, pl_module: LightningModule) -> Batches:
        """Numbered batches of the network's input size, from the option's source."""
        source: Source = getattr(self, option)
        input_size = size_of(trainer, pl_module, self.seed)
        if source != MODULE:
            classes = classes_of(trainer, pl_module, input_size, self.seed)
            return batches(source, self.batch_size, input_size, self.seed, classes)
        make = getattr(getattr(trainer, "datamodule", None), "proxy_batch", None)
        if make is None:
            loaded = images_of(trainer, self.batch_size, self.seed)[0]
        else:
            loaded = partial(make, self.batch_size, self.seed)

        @lru_cache(maxsize=2)
        def numbered(index: int) -> Batch:
            batch = loaded(index)
            size = tuple(batch.images.shape[1:])
            if size == input_size:
                return batch
            if len(size) != 3 or len(input_size) != 3:
                raise ValueError(f"the training's inputs have the shape {size}, the network takes {input_size}")
            if size[0] != input_size[0]:
                raise ValueError(f"the training's images have {size[0]} channels, the network takes {input_size[0]}")
            images = F.interpolate(batch.images, input_size[1:], mode="bilinear", align_corners=False)
            return Batch(images, batch.labels)

        return numbered

    def _images(self, trainer: Trainer, pl_module: LightningModule) -> Images:
        images = self._batches("input", trainer, pl_module)
        # Where no proxy looks at real images, there need be none.
        real = any(proxy.input == "data" for proxy in self.proxies)
        return Images(images, self._batches("data", trainer, pl_module) if real else images)

    def _compute(
        self, trainer: Trainer, pl_module: LightningModule, proxies: Sequence[Proxy], init: Init | Literal["auto"]
    ) -> ProxyValues:
        """Values on the first process, which the others wait for and receive."""
        values: ProxyValues = {}
        if trainer.is_global_zero:
            images = partial(self._images, trainer, pl_module)
            values = measure(network_of(pl_module), images, proxies, self.seed, init)
        return trainer.strategy.broadcast(values)

    def _tell_reasons(self, reasons: Mapping[str, str]) -> None:
        by_reason: dict[str, list[str]] = {}
        for name in self._scores:
            if name in reasons:
                by_reason.setdefault(reasons[name], []).append(name)
        for reason, names in by_reason.items():
            text = f"no {', '.join(names)}: {reason}"
            if text not in self._told:  # once, not after every epoch
                self._told.add(text)
                _say(text)

    def _defined(self, prefix: str, values: Mapping[str, float | None]) -> dict[str, float]:
        return {f"{prefix}/{name}": value for name in self._scores if (value := values[name]) is not None}

    def _log_scores(self, trainer: Trainer, pl_module: LightningModule, before: ProxyValues) -> None:
        scores = self._defined("proxy", before["values"])
        hparams = initial_hparams(pl_module)
        for logger in trainer.loggers:
            logger.log_hyperparams({**hparams, **scores})
            if any(base.__name__ == "WandbLogger" for base in type(logger).__mro__):  # of either Lightning
                cast(Any, logger).experiment.summary.update(scores)
            if self._new and scores:
                logger.log_metrics(scores, step=0)
            logger.save()
        self._new = False

    def _write_scores(self, trainer: Trainer, pl_module: LightningModule, before: ProxyValues) -> None:
        arch = str(getattr(pl_module, "arch", _name(pl_module)))
        reason = "; ".join(f"{column}: {text}" for column, text in before["reasons"].items())
        status = FAILED if before["failed"] else OK
        row = ScoreRow(arch, self.seed, before["values"], status, reason, before["seconds"])
        write_table(_folder(trainer) / SCORES, ScoreTable(self.columns, [row]))

    def _add_drift(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        now = self._compute(trainer, pl_module, self._on_own_weights, "keep")
        if trainer.is_global_zero:
            self._tell_reasons(now["reasons"])
        row = {"epoch": epoch, "step": trainer.global_step, "values": now["values"]}
        # A training that is resumed from within the end of an epoch ends that epoch once more.
        self._drift = [*(earlier for earlier in self._drift if earlier["epoch"] < epoch), row]

    def _log_drift(self, trainer: Trainer, row: Mapping[str, Any]) -> None:
        scores = self._defined("proxy_drift", row["values"])
        step = max(0, row["step"] - 1)  # where Lightning logs the other values of the end of an epoch
        for logger in trainer.loggers if scores else ():
            logger.log_metrics({**scores, "epoch": trainer.current_epoch}, step=step)

    def _write_drift(self, trainer: Trainer) -> None:
        rows = [[row["epoch"], row["step"], *map(row["values"].get, self.columns)] for row in self._drift]
        write_csv(_folder(trainer) / DRIFT, ["epoch", "step", *self.columns], rows)


def measure(
    network: nn.Module,
    images: Callable[[], Images],
    proxies: Sequence[Proxy],
    seed: int,
    init: Init | Literal["auto"],
) -> ProxyValues:
    """Scores as ``score`` computes them, or the reason why there are none; network and random streams stay as they are."""
    started_at = time.perf_counter()
    columns = [column for proxy in proxies for column in proxy.table_columns]
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with isolate_rng(include_cuda=device.type == "cuda"), torch.enable_grad(), _as_in_score(device):
            # As the space builds it, whatever the trainer's precision and memory order: the bits depend on both.
            lent = private_copy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            if init != "keep":
                lent.float()
            scores = score_network(lent, images(), proxies, seed, init)
            del lent
    except Exception as error:
        values = no_values(columns, why(error))
    else:
        values = {"values": dict(scores.values), "reasons": dict(scores.reasons), "failed": scores.failed}
    release_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {**values, "seconds": time.perf_counter() - started_at}


def no_values(columns: Sequence[str], reason: str) -> ProxyValues:
    """Values of a network that has none, for one reason."""
    return {"values": dict.fromkeys(columns), "reasons": dict.fromkeys(columns, reason), "failed": True, "seconds": 0.0}


@contextmanager
def _as_in_score(device: torch.device) -> Iterator[None]:
    """One thread on CPU, full precision on CUDA: the bits of a score depend on both."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def _folder(trainer: Trainer) -> Path:
    folder = Path(trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _name(pl_module: LightningModule) -> str:
    return type(pl_module).__name__


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""The Lightning module of ``score``: a prediction step builds one network and scores it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from pytorch_lightning import LightningModule

from vkdnw_pl.data.batches import Source, batches
from vkdnw_pl.networks.init import Init
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.functional.jacobian import GenericFallback
from vkdnw_pl.proxies.scoring import Images, score_network
from vkdnw_pl.runs.table import FAILED, OK, Key, ScoreRow
from vkdnw_pl.spaces import SPACES

log = logging.getLogger(__name__)


class HowToScore(Protocol):
    """What settings say of how proxies are computed."""

    @property
    def space(self) -> str: ...
    @property
    def network(self) -> Mapping[str, Any]: ...
    @property
    def proxies(self) -> Sequence[str | Mapping[str, Any]]: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def input(self) -> Source: ...
    @property
    def data(self) -> Source | None: ...
    @property
    def init(self) -> Init | Literal["auto"]: ...


class ScoringModule(LightningModule):
    """Scores architectures; a row is a pure function of (architecture, seed) and these arguments.

    Args:
        space: name of the search space.
        network: options of its networks.
        proxies: names, or mappings with ``name`` and parameters.
        batch_size: images per batch.
        input: where the images come from for proxies that take any, see ``data.batches.image_batch``.
        data: the same for proxies that are defined on real images.
        init: name of the initialisation, or ``auto`` for each proxy's own.
    """

    def __init__(
        self,
        space: str,
        network: Mapping[str, Any],
        proxies: Sequence[str | Mapping[str, Any]],
        batch_size: int,
        input: Source,
        data: Source,
        init: Init | Literal["auto"],
    ) -> None:
        super().__init__()
        self.space = SPACES[space]
        self.network_options = dict(network)
        self.proxies = make_proxies(proxies)
        self.columns = tuple(column for proxy in self.proxies for column in proxy.table_columns)
        self.batch_size = batch_size
        self.input = input
        self.data = data
        self.init = init
        self._images: tuple[int, Images] | None = None

    @classmethod
    def of(cls, settings: HowToScore) -> ScoringModule:
        """The module for the settings of a scoring or a search."""
        data = settings.data or "digits"
        return cls(
            settings.space, settings.network, settings.proxies, settings.batch_size, settings.input, data, settings.init
        )

    def on_predict_start(self) -> None:
        """One thread per process on CPU, and no rounding short cuts on CUDA: the bits of a row are those of its key."""
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        else:
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True

    def predict_step(self, batch: Key, batch_idx: int = 0) -> ScoreRow:
        arch, seed = batch
        started_at = time.perf_counter()
        try:
            # Lightning predicts without gradients; proxies need them.
            with torch.enable_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore", GenericFallback)  # the value is the same, it only takes longer
                torch.manual_seed(seed)
                network = self.space.build(arch, **self.network_options).to(self.device)
                scores = score_network(network, self._images_of(seed), self.proxies, seed=seed, init=self.init)
        except Exception as error:
            # Whatever is wrong with one architecture, the others go on; the row says what it was.
            log.debug("scoring of %s failed", arch, exc_info=True)
            reason = f"{type(error).__name__}: {error}"
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return ScoreRow(arch, seed, dict.fromkeys(self.columns), FAILED, reason, time.perf_counter() - started_at)
        return ScoreRow(
            arch,
            seed,
            {column: scores.values[column] for column in self.columns},
            FAILED if scores.failed else OK,
            "; ".join(f"{column}: {text}" for column, text in scores.reasons.items()),
            time.perf_counter() - started_at,
        )

    def _images_of(self, seed: int) -> Images:
        if self._images is None or self._images[0] != seed:
            size = self.space.input_size(**self.network_options)
            classes = self.space.num_classes(**self.network_options)
            sources = (batches(source, self.batch_size, size, seed, classes) for source in (self.input, self.data))
            self._images = seed, Images(*sources)
        return self._images[1]

"""Scores one architecture: builds its network, where a proxy needs one, and computes the proxies."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence

import torch

from vkdnw_pl.data.batches import batches
from vkdnw_pl.errors import why
from vkdnw_pl.proxies import Proxy, make_proxies
from vkdnw_pl.proxies.functional.jacobian import GenericFallback
from vkdnw_pl.proxies.scoring import Images, Scores, score_network
from vkdnw_pl.runs.table import FAILED, OK, Key, ScoreRow
from vkdnw_pl.scoring.settings import ScorerSettings
from vkdnw_pl.spaces import SPACES

log = logging.getLogger(__name__)


class Scorer:
    """Scores architectures; a row is a pure function of (architecture, seed) and the settings."""

    def __init__(self, settings: ScorerSettings) -> None:
        self.settings = settings
        self.space = SPACES[settings.space]
        self.proxies = make_proxies(settings.proxies)
        self.columns = tuple(column for proxy in self.proxies for column in proxy.table_columns)
        self.device = torch.device("cpu")
        self._images: tuple[int, Images] | None = None

    def use(self, device: str) -> None:
        """Compute on a device from now on; see `compute_exactly`."""
        self.device = compute_exactly(device)

    def row(self, arch: str, seed: int) -> ScoreRow:
        """Compute the proxies; an exception becomes a failed row with its reason."""
        started_at = time.perf_counter()
        notes: list[str] = []
        try:
            known = [self._closed_form(proxy, arch) for proxy in self.proxies]
            others = [proxy for proxy, (values, _) in zip(self.proxies, known) if values is None]
            scores = self._score_network(arch, seed, others, notes) if others else Scores()
            for proxy, (values, seconds) in zip(self.proxies, known):
                if values is not None:
                    scores.take(proxy, values)
                    scores.seconds[proxy.label or proxy.name] = seconds
        except Exception as error:
            # Whatever is wrong with one architecture, the others go on; the row says what it was.
            log.debug("scoring of %s failed", arch, exc_info=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return self.failed((arch, seed), why(error), time.perf_counter() - started_at)
        return ScoreRow(
            arch,
            seed,
            {column: scores.values[column] for column in self.columns},
            FAILED if scores.failed else OK,
            "; ".join(f"{column}: {text}" for column, text in scores.reasons.items()),
            time.perf_counter() - started_at,
            notes=tuple(notes),
            proxy_seconds=scores.seconds,
        )

    def _closed_form(self, proxy: Proxy, arch: str) -> tuple[dict[str, float] | None, float]:
        """What `Proxy.closed_form` gives, and the seconds that it took."""
        started_at = time.perf_counter()
        return proxy.closed_form(self.space, arch, self.settings.network), time.perf_counter() - started_at

    def _score_network(self, arch: str, seed: int, proxies: Sequence[Proxy], notes: list[str]) -> Scores:
        """Build the network and score it; ``notes`` gets what the user may want to know."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GenericFallback)
            torch.manual_seed(seed)
            with torch.no_grad():  # what it computes has no graph then, which a copy would be cut off from
                network = self.space.build(arch, **self.settings.network).to(self.device)
            scores = score_network(network, self._images_of(seed), proxies, seed, self.settings.init, fresh=True)
        notes.extend(_notes(caught))
        return scores

    def failed(self, key: Key, reason: str, seconds: float) -> ScoreRow:
        """A row without values."""
        return ScoreRow(*key, dict.fromkeys(self.columns), FAILED, reason, seconds)

    def _images_of(self, seed: int) -> Images:
        if self._images is None or self._images[0] != seed:
            settings = self.settings
            size = self.space.input_size(**settings.network)
            classes = self.space.num_classes(**settings.network)
            sources = (settings.input, settings.data or "digits")
            images = Images(*(batches(source, settings.batch_size, size, seed, classes) for source in sources))
            self._images = seed, images
        return self._images[1]


def compute_exactly(device: str) -> torch.device:
    """Let PyTorch compute in such a way that equal work on a device gives equal bits.

    For a process of its own: one thread on CPU, on CUDA no rounding short cuts, in all of PyTorch.
    """
    target = torch.device(device)
    if target.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(target)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return target


def _notes(caught: Sequence[warnings.WarningMessage]) -> Iterator[str]:
    """The texts of fallbacks; other warnings are shown as ever."""
    for warning in caught:
        if issubclass(warning.category, GenericFallback):
            yield str(warning.message)
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)

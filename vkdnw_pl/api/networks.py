"""Scores of networks that Python code holds, and their rankings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vkdnw_pl.data.batches import Batch, Source, batches, image_batch
from vkdnw_pl.data.given_images import given_images
from vkdnw_pl.errors import check_bool, check_choice, check_whole, shown, why
from vkdnw_pl.networks.init import INITS, Init
from vkdnw_pl.proxies.base import Proxy, ProxySpec, make_proxies, sample_notes
from vkdnw_pl.proxies.scoring import Images, Scores, num_logits, score_network
from vkdnw_pl.ranking import aggregate, columns_of, parse_ranking, rank_values
from vkdnw_pl.ranking.needed import named_rankings, refuse_for_one, with_proxies_of


class NetworkScores(dict[str, float | None]):
    """Column → value, None where the network has no such score; ``reasons`` says why."""

    def __init__(self, values: Mapping[str, float | None], reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(values)
        self.reasons = dict(reasons or {})
        """Column → text."""


def score(
    network: nn.Module,
    input_size: Sequence[int] | None = None,
    num_classes: int | None = None,
    proxies: Sequence[ProxySpec] = ("vkdnw", "aleph", "macs", "params"),
    batch_size: int | None = None,
    seed: int = 1,
    init: Init | Literal["auto"] = "auto",
    data: Source | None = None,
    inputs: Tensor | Batch | None = None,
    images: Any = None,
    details: bool = False,
    strict: bool = False,
) -> NetworkScores:
    """Zero-cost scores of any torch module that maps one tensor to logits (batch, classes).

    Args:
        network: the module; its weights, buffers, mode, hooks and the random state are as before afterwards.
        input_size: shape of one input: (channels, height, width) of an image, or any other that the network takes, such as
            (20, 8) or (12,). By default that of ``images``, else (3, 224, 224).
        num_classes: expected number of logits; checked where given, else found out where a proxy needs labels. A data
            module in ``images`` says its own.
        proxies: names, ``{"name": ..., parameter: value}``, classes or made proxies; see ``vkdnw_pl.proxies.PROXIES``.
        batch_size: images that a proxy sees at a time, 16 by default.
        seed: of random inputs, of which images are drawn, of the initialisation and of the proxies' random draws.
        init: ``auto`` scores copies that are initialised as each proxy is defined, ``kaiming_normal``, ``gaussian``,
            ``zennas`` and ``pytorch`` all proxies on such a copy, ``keep`` on the weights as they are.
        data: images for the proxies that are defined on real ones, by name or file: see ``data.batches.image_batch``.
            Digits by default, random values where the inputs are no images. Digits have 10 classes, so that proxies with
            labels need a network with as many.
        inputs: one batch (B, ...) of your own for all proxies, such as token numbers, instead of ``input_size``,
            ``batch_size``, ``data`` and ``images``; a ``Batch`` has labels too, which are drawn at random for a tensor.
        images: your own images for the proxies that are defined on real ones, instead of ``data``: a tensor
            (n, channels, height, width), ``(images, labels)``, a DataLoader, or a LightningDataModule. They are taken as
            they are, so normalise them as for the training. ``seed`` draws ``batch_size`` of them, without replacement; a
            loader with a sampler of its own, or of an iterable data set, is read from its beginning as far as needed.
            The other proxies see random inputs of the same size.
        details: also the further columns of a proxy, such as ``vkdnw_decile_1``.
        strict: raise where a proxy fails; a score that is undefined for the network is no failure.

    Returns:
        Column → value, or None with a text in ``reasons``. Higher is better unless the proxy's record says otherwise.

    Raises:
        ValueError: for unknown proxies, parameters or images, too few images, labels that proxies need and are not there,
            or where the number of logits is not ``num_classes``.
        RuntimeError: with ``strict``, where a proxy fails, with its reason.
    """
    if isinstance(network, Mapping):
        raise ValueError("network is a mapping: several networks are ranked by vkdnw_pl.rank({name: network, ...})")
    if not isinstance(network, nn.Module):
        raise ValueError(f"network={network!r} is not allowed: give a torch.nn.Module")
    if not isinstance(proxies, str) and isinstance(proxies, Iterable):
        refuse_for_one(proxies := list(proxies))
    check_bool("details", details)
    check_bool("strict", strict)
    made_proxies = make_proxies(proxies)
    task = _prepare(made_proxies, input_size, num_classes, batch_size, seed, init, data, inputs, images)
    scores = task.scores(network)
    if scores.failed and strict:
        raise RuntimeError("; ".join(f"{column}: {reason}" for column, reason in scores.reasons.items()))
    columns = [column for proxy in made_proxies for column in proxy.table_columns[: None if details else 1]]
    reasons = {column: scores.reasons[column] for column in columns if column in scores.reasons}
    return NetworkScores({column: scores.values[column] for column in columns}, reasons)


def rank(
    networks: Mapping[str, nn.Module],
    ranking: str = "vkdnw_agg",
    input_size: Sequence[int] | None = None,
    num_classes: int | None = None,
    proxies: Sequence[ProxySpec] = (),
    batch_size: int | None = None,
    seed: int = 1,
    init: Init | Literal["auto"] = "auto",
    data: Source | None = None,
    inputs: Tensor | Batch | None = None,
    images: Any = None,
) -> pd.DataFrame:
    """Order several networks by a ranking of proxies, the best first.

    Args:
        networks: name → module, at least two; they stay as they are.
        ranking: ``vkdnw_agg``, ``vkdnw_robust``, ``vkdnw_single``, ``az_nas``, ``te_nas``, one proxy, or an own one such as
            ``"aleph>vkdnw+jacov"``: see ``vkdnw_pl.ranking.parse_ranking``. Its proxies are computed.
        proxies: further ones to compute, or other parameters for those of the ranking. The name of a ranking stands for
            the proxies that it needs, and has a column of ranks.
        input_size, num_classes, batch_size, seed, init, data, inputs, images: as for ``vkdnw_pl.score``; the same for all.

    Returns:
        One row per network, by name. ``rank``: 1 is the best, equal ones share the mean. ``score``: the sum of the
        logarithms of the ranks, at most 0. Then the ranks of further rankings, the proxies' values, and ``reason``: why
        a value is missing. A network ranks last by a value that it lacks; one that could not be scored at all comes at the
        end without a rank.

    Raises:
        ValueError: for fewer than two networks, and for what none of them could be scored with.
    """
    if not isinstance(networks, Mapping) or len(networks) < 2:
        count = len(networks) if isinstance(networks, Mapping) else type(networks).__name__
        raise ValueError(f"networks={count} is not allowed: a ranking orders several, give {{name: network, ...}}")
    for name, network in networks.items():
        if not isinstance(network, nn.Module):
            raise ValueError(f"networks: {name!r} is {shown(network)}: give a torch.nn.Module")
    if not isinstance(ranking, str):
        raise ValueError(f"ranking={shown(ranking)} is not allowed: give a text such as 'vkdnw_agg'")
    made_proxies = make_proxies(with_proxies_of([ranking], proxies))
    task = _prepare(made_proxies, input_size, num_classes, batch_size, seed, init, data, inputs, images)
    rows: dict[str, Scores] = {}
    for name, network in networks.items():
        try:
            rows[name] = task.scores(network)
        except Exception as error:  # the others go on
            rows[name] = Scores(reasons={"": why(error)}, failed=True)
    columns = [column for proxy in made_proxies for column in proxy.table_columns]
    values = {c: np.array([rows[name].values.get(c) for name in networks], dtype=np.float64) for c in columns}
    scored = np.array([bool(rows[name].values) for name in networks])
    others = [name for name in named_rankings(proxies) if name != ranking]
    ranks, sums = _ranks(values, scored, ranking)
    shown_columns = [proxy.table_columns[0] for proxy in made_proxies]
    shown_columns += [column for column in columns_of(parse_ranking(ranking)) if column not in shown_columns]
    table = pd.DataFrame(
        {
            "rank": ranks,
            "score": sums,
            **{name: _ranks(values, scored, name)[0] for name in others},
            **{column: values[column] for column in shown_columns},
            "reason": [_reason(rows[name]) for name in networks],
        },
        index=pd.Index(list(networks), name="network"),
    )
    return table.sort_values("rank", kind="stable", na_position="last")


def _ranks(values: Mapping[str, Any], scored: Any, ranking: str) -> tuple[Any, Any]:
    """Ranks from 1 = best, and sums of log-ranks, of those that were scored; NaN for the others."""
    ranks, sums = np.full(len(scored), math.nan), np.full(len(scored), math.nan)
    sums[scored] = aggregate({column: of[scored] for column, of in values.items()}, parse_ranking(ranking))
    ranks[scored] = scored.sum() + 1 - rank_values(sums[scored])
    return ranks, sums


def _reason(scores: Scores) -> str:
    return "; ".join(f"{column}: {text}" if column else text for column, text in scores.reasons.items())


@dataclass(frozen=True)
class _Task:
    """What is to be computed of any network, checked."""

    proxies: Sequence[Proxy]
    seed: int
    init: Init | Literal["auto"]
    num_classes: int | None
    """Expected number of logits; None for any."""
    why_classes: str
    """Who expects them."""
    given: Batch | None
    """The one batch that all proxies see; None where there are numbered ones."""
    images: Images | None
    size: tuple[int, ...]
    batch_size: int
    data: Source | None
    """For proxies on real images; None where they were given as objects."""

    def scores(self, network: nn.Module) -> Scores:
        """Compute the proxies; a ValueError is about the network and these images."""
        if any(parameter.is_meta for parameter in network.parameters()):
            raise ValueError(
                "the network is on the meta device, where weights have no values: make it on another device"
            )
        few = self.given or batches("random", min(self.batch_size, 2), self.size, self.seed)(0)
        logits = None
        if self.num_classes is not None or any(proxy.info.needs_labels for proxy in self.proxies):
            logits = num_logits(network, few, self.seed)
            if self.num_classes is not None and logits not in (None, self.num_classes):
                raise ValueError(f"{self.why_classes}, but the network returns {logits} logits")
        return score_network(network, self._images_for(logits), self.proxies, self.seed, self.init)

    def _images_for(self, logits: int | None) -> Images | Batch:
        """The images, with random labels below ``logits`` where none are given."""
        if self.given is not None:
            if self.given.labels is not None or logits is None:
                return self.given
            return replace(self.given, labels=image_batch("random", self.batch_size, (1,), self.seed, logits).labels)
        random = batches("random", self.batch_size, self.size, self.seed, logits)
        if self.images is None:
            assert self.data is not None
            images = Images(random, batches(self.data, self.batch_size, self.size, self.seed, logits))
        else:
            images = replace(self.images, images=random)
            _check_labels(images.data(0), self.proxies, logits)
        # A wrong batch size or source is the caller's mistake, not a failed proxy.
        for kind in {proxy.input for proxy in self.proxies} - {"none"}:
            getattr(images, kind)(0)
        return images


def _prepare(
    proxies: Sequence[Proxy],
    input_size: Any,
    num_classes: Any,
    batch_size: Any,
    seed: Any,
    init: Any,
    data: Any,
    inputs: Any,
    images: Any,
) -> _Task:
    """Check what has nothing to do with the network."""
    check_choice("init", init, ("auto", *INITS))
    check_whole("seed", seed := _plain(seed), 0, most=2**32 - 1)
    if num_classes is not None:
        check_whole("num_classes", num_classes := _plain(num_classes), 1)
    why_classes = f"num_classes={num_classes} was given"
    given = numbered = None
    if inputs is not None:
        options = {"input_size": input_size, "batch_size": batch_size, "data": data, "images": images}
        given = _one_batch(inputs, options)
        size, batch_size = tuple(given.images.shape[1:]), len(given.images)
    else:
        size = (3, 224, 224) if input_size is None else _shape(input_size)
        check_whole("batch_size", batch_size := 16 if batch_size is None else _plain(batch_size), 1)
        if not (data is None or isinstance(data, str | Mapping)):
            raise ValueError(
                f"data={shown(data)} is not allowed: give a name, the path of a file or a data module by its class_path; "
                "tensors, loaders and data modules as images"
            )
        if isinstance(images, str | Mapping):
            raise ValueError(f"images={shown(images)} is not allowed: names, files and class paths are given as data")
        if images is not None:
            if data is not None:
                raise ValueError(f"data={data!r} has no meaning beside images, which take its place")
            its = given_images(images, batch_size, seed)
            if input_size is not None and size != its.input_size:
                raise ValueError(f"input_size={size} was given, but images has inputs of the shape {its.input_size}")
            size = its.input_size
            if num_classes is None and its.num_classes is not None:
                num_classes = int(its.num_classes)
                why_classes = f"the data module in images has {num_classes} classes (num_classes is another number)"
            numbered = Images(its.batches, its.batches)
            _check_labels(its.batches(0), proxies, num_classes)
        option = "images" if images is not None else f"data={data!r}"
        if (images is not None or data is not None) and not any(proxy.input == "data" for proxy in proxies):
            name = next((proxy.name for proxy in proxies if proxy.input == "images"), "vkdnw")
            warnings.warn(
                f"{option} has no effect: no proxy among these sees images of a data set (write "
                f"{{'name': {name!r}, 'images': 'data'}} to let one that takes any see them)",
                stacklevel=3,
            )
    for note in sample_notes(proxies, batch_size, only=given is not None):
        warnings.warn(note, stacklevel=3)
    data = data or ("digits" if len(size) == 3 else "random")
    return _Task(proxies, seed, init, num_classes, why_classes, given, numbered, size, batch_size, data)


def _one_batch(inputs: Any, options: Mapping[str, Any]) -> Batch:
    """The batch that all proxies see; refuses the options that have no meaning beside it."""
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option}={shown(value)} has no meaning beside inputs, which are a whole batch")
    batch = inputs if isinstance(inputs, Batch) else Batch(inputs)
    if not isinstance(batch.images, Tensor) or batch.images.dim() == 0 or not len(batch.images):
        raise ValueError(f"inputs={inputs!r} is not allowed: give a tensor (B, ...) with at least one input")
    if batch.images.is_meta or batch.images.layout != torch.strided:
        raise ValueError("inputs is a tensor without values, or a sparse one: give a dense tensor (B, ...)")
    return batch


def _shape(input_size: Any) -> tuple[int, ...]:
    if isinstance(input_size, str) or not isinstance(input_size, Iterable):
        raise ValueError(f"input_size={input_size!r} is not allowed: give a shape such as (3, 224, 224)")
    size = tuple(map(_plain, input_size))
    for length in size or (None,):
        check_whole(f"input_size={input_size!r}: length", length, 1)
    return size


def _check_labels(batch: Batch, proxies: Sequence[Proxy], num_classes: int | None) -> None:
    """Refuse given images without the labels that proxies need; None where the number of classes is not known."""
    names = [p.label or p.name for p in proxies if p.input == "data" and p.info.needs_labels]
    if names and batch.labels is None:
        raise ValueError(f"images has no labels, which {', '.join(names)} need: give (images, labels)")
    if names and num_classes is not None and (largest := int(batch.labels.max())) >= num_classes:  # type: ignore[union-attr]
        raise ValueError(f"images has a label {largest}, and {', '.join(names)} need labels below {num_classes}")


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's."""
    return value.item() if isinstance(value, np.generic) else value

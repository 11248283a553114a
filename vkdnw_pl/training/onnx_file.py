"""A network as an ONNX file, checked against PyTorch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vkdnw_pl.errors import CommandFailed, check_whole
from vkdnw_pl.runs.files import replaced

OPSET = 18
"""The oldest opset that both of PyTorch's exporters write themselves."""
TOLERANCE = 1e-4
"""Largest allowed difference of logits, as a share of the largest logit."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install 'vkdnw_pl[onnx]' (or: pip install onnx onnxscript onnxruntime)"
INPUT, OUTPUT = "images", "logits"
_CHECKED_BATCHES = (1, 3)

# The exporter on top of torch.export is PyTorch's default from 2.9 on; the one of 2.6 fails on a batch of any size here.
_BY_TORCH_EXPORT = torch.__version__ >= (2, 9)  # type: ignore[operator]


class OnnxMismatch(RuntimeError):
    """The ONNX file does not compute what the network computes."""


@dataclass(frozen=True)
class OnnxCheck:
    """How far onnxruntime is from PyTorch on the same images."""

    difference: float
    """Largest absolute difference of logits over the largest absolute logit."""
    batches: tuple[int, ...]


def check_onnx(opset: int) -> None:
    """Make sure that ONNX files of this opset can be written.

    Raises:
        ValueError: for an opset that cannot be written.
        CommandFailed: if a package of the extra ``onnx`` is not installed.
    """
    check_whole("opset", opset, OPSET)
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise CommandFailed(f"the format onnx needs {', '.join(missing)}: {INSTALL}")


def write_onnx(
    network: nn.Module,
    path: Path,
    input_size: Sequence[int],
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> OnnxCheck:
    """Write an ONNX file with a batch of any size, and check it with onnxruntime before it takes its name.

    Args:
        network: on the CPU; maps images (B, C, H, W) to logits (B, K), in evaluation mode.
        path: file; an existing one is replaced when the new one is right.
        input_size: C, H, W.
        opset: version of ONNX's operators.
        metadata: texts that the file carries along.

    Raises:
        ValueError: if the exporter does not write that opset.
        OnnxMismatch: if onnxruntime's logits differ by more than `TOLERANCE`.
    """
    import onnx

    check_whole("opset", opset, OPSET)
    training = network.training
    network.eval()
    try:
        _logits(network, torch.zeros(1, *input_size))
        with replaced(path) as draft:
            with _quiet():
                _export(network, torch.zeros(2, *input_size), draft, opset)
            model = onnx.load(str(draft))
            written = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
            if written != opset:
                raise ValueError(f"opset={opset} is not allowed: PyTorch {torch.__version__} writes {written} instead")
            onnx.helper.set_model_props(model, dict(metadata or {}))
            onnx.checker.check_model(model)
            onnx.save(model, str(draft))
            return compare(network, draft, input_size)
    finally:
        network.train(training)


def compare(network: nn.Module, path: Path, input_size: Sequence[int], seed: int = 0) -> OnnxCheck:
    """Compare an ONNX file with the network that it was made of, on normally distributed images.

    Raises:
        OnnxMismatch: if logits differ by more than `TOLERANCE`, or one is not finite.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(seed)
    difference = 0.0
    for batch in _CHECKED_BATCHES:
        images = torch.randn(batch, *input_size, generator=generator)
        expected = _logits(network, images)
        (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
        scale = float(expected.abs().max()) or 1.0
        apart = float((torch.from_numpy(logits) - expected).abs().max())
        difference = max(difference, apart / scale)
        if not apart <= TOLERANCE * scale:  # also where it is not a number
            raise OnnxMismatch(
                f"logits of the ONNX file differ by {apart:.3g} from PyTorch's, whose largest is {scale:.3g}; allowed "
                f"is a share of {TOLERANCE:g}"
            )
    return OnnxCheck(difference, _CHECKED_BATCHES)


@torch.no_grad()
def _logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits = network(images)
    if not logits.isfinite().all():
        raise OnnxMismatch("the network's own logits are not finite, so that nothing can be compared")
    return logits


def _export(network: nn.Module, images: torch.Tensor, path: Path, opset: int) -> None:
    names: dict[str, Any] = dict(input_names=[INPUT], output_names=[OUTPUT], opset_version=opset)
    if _BY_TORCH_EXPORT:
        batch = torch.export.Dim("batch", min=1)
        torch.onnx.export(
            network,
            (images,),
            path,
            dynamo=True,
            dynamic_shapes=({0: batch},),
            external_data=False,
            verbose=False,
            **names,
        )
    else:
        axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
        torch.onnx.export(network, (images,), str(path), dynamo=False, dynamic_axes=axes, **names)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says about its steps; an error brings its own text along."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

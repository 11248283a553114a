"""The files that ``export`` writes: weights in several formats, and a card that says what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import CommandFailed, UsageError
from vkdnw_pl.runs.environment import environment_record
from vkdnw_pl.runs.files import write_json
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.training.export_options import CARD, FILES
from vkdnw_pl.training.export_source import ExportSource
from vkdnw_pl.training.exported import save_exported, weights_digest
from vkdnw_pl.training.onnx_file import INPUT, OUTPUT, TOLERANCE, OnnxMismatch, write_onnx


def make_card(source: ExportSource) -> dict[str, Any]:
    """What ``model.json`` says of a network, but for the digests of files."""
    record = source.record
    space = SPACES[record.space]
    card = {**asdict(record), "trained": source.trained, **asdict(space.cost(record.arch, **record.options))}
    if (reference := space.reference_cost(record.arch, **record.options)) is not None:
        card["reference"] = asdict(reference)
    facts = {"accuracy": None, "normalisation": None, **source.facts}
    weights = weights_digest(source.network.state_dict())
    return {**card, **facts, "versions": environment_record()["versions"], "weights": weights, "files": {}}


def kept_files(folder: Path, formats: Sequence[str], weights: str, overwrite: bool) -> dict[str, Any]:
    """Entries of the card for files that stay in the folder: those of the same weights in another format.

    Args:
        folder: of the export.
        formats: that will be written.
        weights: digest of the weights that will be written.
        overwrite: files that are there may be replaced.

    Raises:
        UsageError: if files are there that may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"out={str(folder)!r} is not allowed: it is a file")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        same = card["weights"] == weights
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    written = [FILES[name] for name in formats]
    existing = [name for name in (CARD, *FILES.values()) if (folder / name).exists()]
    clash = [name for name in existing if name in written or not same]
    if clash and not overwrite:
        raise UsageError(f"{folder} has {', '.join(clash)} already: give another --out, or --overwrite true")
    if not same:
        return {}
    files = {name: digest for name, digest in card["files"].items() if name in existing and name not in written}
    return {"files": files, **({"onnx": card["onnx"]} if FILES["onnx"] in files else {})}


def write_files(
    folder: Path, formats: Sequence[str], source: ExportSource, card: dict[str, Any], opset: int
) -> dict[str, Any]:
    """Write the network in all formats, then its card.

    Returns:
        The card, with the digests of the files.

    Raises:
        UsageError: if the opset cannot be written.
        CommandFailed: if the ONNX file does not compute what the network computes.
    """
    # The folder holds one network: what is left of another one goes, its card first.
    (folder / CARD).unlink(missing_ok=True)
    for name in set(FILES.values()) - set(card["files"]):
        (folder / name).unlink(missing_ok=True)
    for name in formats:
        path = folder / FILES[name]
        if name == "onnx":
            card["onnx"] = _write_onnx(path, source, card, opset)
        else:
            save_exported(path, source.record, source.network.state_dict())
        card["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(folder / CARD, card)
    return card


def _write_onnx(path: Path, source: ExportSource, card: dict[str, Any], opset: int) -> dict[str, Any]:
    record = source.record
    metadata = {"arch": record.arch, "space": record.space, "normalisation": json.dumps(card["normalisation"])}
    try:
        check = write_onnx(source.network, path, record.input_size, opset, metadata)
    except OnnxMismatch as error:
        raise CommandFailed(f"{path} was not written: {error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(
        f"onnxruntime against PyTorch: largest difference of logits {check.difference:.1e} of the largest logit "
        f"(allowed {TOLERANCE:g}), batches of {' and '.join(map(str, check.batches))} images"
    )
    shapes = {INPUT: ["batch", *record.input_size], OUTPUT: ["batch", record.num_classes]}
    return {"opset": opset, "shapes": shapes, "difference": check.difference, "tolerance": TOLERANCE}

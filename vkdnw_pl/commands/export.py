"""The command ``export``."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkdnw_pl.errors import CommandFailed, UsageError, unknown, user_input
from vkdnw_pl.runs.environment import environment_record
from vkdnw_pl.runs.folder import remove_wandb
from vkdnw_pl.tracking.options import wandb_options
from vkdnw_pl.tracking.tracked import Tracked, tracked_run

if TYPE_CHECKING:
    from vkdnw_pl.commands.export_source import ExportSource

FILES = {"state_dict": "model.pt", "safetensors": "model.safetensors", "onnx": "model.onnx"}
"""Format -> file in the folder; beside them ``model.json``."""
CARD = "model.json"
INSTALL_ONNX = "pip install 'vkdnw_pl[onnx]' (or: pip install onnx onnxscript onnxruntime)"


def export(
    source: str,
    out: str | None = None,
    format: str | list[str] = "state_dict",
    checkpoint: str = "best",
    untrained: bool = False,
    arch: str | None = None,
    space: str = "auto",
    network: dict[str, Any] | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    opset: int = 18,
    overwrite: bool = False,
    wandb: bool | str = False,
    wandb_group: str | None = None,
    wandb_tags: list[str] = [],  # noqa: B006  (only read)
) -> int:
    """Write a trained network as a state dict with its architecture, as safetensors, or as ONNX.

    OUT/model.json says what the network is: architecture, MACs, parameters, classes, the accuracy that was measured with
    these weights, how its images are normalised. With EMA the weights are the averaged ones.

    Args:
        source: What to export: the run folder of fit, one of its checkpoints, an exported network (to write it in
            another format), or, with --untrained true, a found.json, an architecture string or a name (mbv2_480m).
        out: Folder for the files. Default: the folder export in the run folder of fit.
        format: One or several of state_dict (model.pt: weights, architecture and options, for load_exported,
            fit --model.weights and timm's checkpoint_path), safetensors (model.safetensors, the same), onnx (model.onnx
            with a batch of any size, checked with onnxruntime; needs the extra onnx); for example state_dict,onnx.
        checkpoint: Which checkpoint of a run folder: best, last or epoch_N.
        untrained: Export random weights where the source has none.
        arch: Architecture (string, name or found.json) of a source that does not say it, such as a bare state dict, or
            where the found.json that was trained has moved.
        space: Search space of an architecture string, or auto.
        network: Options of the space's network where the source does not know them, for example '{use_se: true}'.
        num_classes: Number of logits, for a source that was not trained; default: what the search had, else the space's.
        image_size: Height and width of the images, likewise.
        seed: Of the random weights.
        opset: Version of ONNX's operators, at least 18.
        overwrite: Replace files of an earlier export.
        wandb: Log to Weights & Biases too: true (the project vkdnw_pl, or WANDB_PROJECT), PROJECT, or ENTITY/PROJECT.
            Without a key or network it writes offline into OUT/wandb.
        wandb_group: Group of the run there.
        wandb_tags: Tags of the run there, such as '[first, second]'.

    Returns:
        0 if every file is written and right, 1 if the ONNX file does not compute what the network computes.

    Raises:
        UsageError: if the source cannot be exported, or a file is there already.
        CommandFailed: if a package is missing, or the ONNX file is wrong.
    """
    options = dict(locals())
    with user_input():
        wandb_options(options)
        formats = _formats(format)
    if "onnx" in formats:
        _check_onnx(opset)
    from vkdnw_pl.commands.export_source import Wanted, read_source  # imports torch

    wanted = Wanted(
        checkpoint=checkpoint,
        untrained=untrained,
        arch=arch,
        space=space,
        network=network or {},
        num_classes=num_classes,
        image_size=image_size,
        seed=seed,
    )
    with user_input():
        given = read_source(source, wanted)
    if out is None and given.run is None:
        raise UsageError("out is missing: give the folder for the files with --out")
    folder = Path(out).expanduser() if out is not None else given.run / "export"  # type: ignore[operator]
    card = _card(given)
    kept = _check_folder(folder, formats, card["weights"], overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    if not given.trained:
        print(f"note: these weights are not trained (seed {seed})", file=sys.stderr)
    _write(folder, formats, given, card | kept, opset)
    if overwrite:
        remove_wandb(folder)
    meta = {"command": "export", "environment": environment_record()}
    with tracked_run({**options, "out": str(folder)}, folder, "export", meta) as tracked:
        log_export(tracked, folder, formats)
    return 0


def log_export(tracked: Tracked, folder: Path, formats: Sequence[str]) -> None:
    """The files as an artifact ``model``, and what their card says in the summary."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    known = {name: card[name] for name in ("space", "arch", "macs", "num_params", "weights", "trained")}
    accuracy = card["accuracy"] if isinstance(card["accuracy"], dict) else {}
    tracked.summary(known | {name: value for name, value in accuracy.items() if isinstance(value, int | float)})
    tracked.artifact("model", [folder / CARD, *(folder / FILES[name] for name in formats)])


def _formats(given: str | list[str]) -> list[str]:
    names = [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]
    for name in names:
        if name not in FILES:
            raise ValueError(unknown("format", name, list(FILES)))
    return [name for name in FILES if name in names]


def _check_onnx(opset: int) -> None:
    from vkdnw_pl.training.onnx_file import check_opset, missing_packages

    with user_input():
        check_opset(opset)
    if missing := missing_packages():
        raise CommandFailed(f"the format onnx needs {', '.join(missing)}: {INSTALL_ONNX}")


def _check_folder(folder: Path, formats: list[str], weights: str, overwrite: bool) -> dict[str, Any]:
    """What the folder's card says of files that stay: those of the same weights in another format.

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
    asked = [FILES[name] for name in formats]
    there = [name for name in (CARD, *FILES.values()) if (folder / name).exists()]
    clash = [name for name in there if name in asked or not same]
    if clash and not overwrite:
        raise UsageError(f"{folder} has {', '.join(clash)} already: give another --out, or --overwrite true")
    if not same:
        return {}
    files = {name: digest for name, digest in card["files"].items() if name in there and name not in asked}
    return {"files": files, **({"onnx": card["onnx"]} if FILES["onnx"] in files else {})}


def _write(folder: Path, formats: list[str], given: ExportSource, card: dict[str, Any], opset: int) -> None:
    from vkdnw_pl.runs.files import write_atomically
    from vkdnw_pl.training.exported import save_exported

    # The folder holds one network: what is left of another one goes, its card first.
    (folder / CARD).unlink(missing_ok=True)
    for name in set(FILES.values()) - set(card["files"]):
        (folder / name).unlink(missing_ok=True)
    for name in formats:
        path = folder / FILES[name]
        if name == "onnx":
            card["onnx"] = _write_onnx(path, given, card, opset)
        else:
            save_exported(path, given.record, given.network.state_dict())
        card["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_atomically(folder / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    for name in formats:
        print(f"{folder / FILES[name]}  {(folder / FILES[name]).stat().st_size / 1e6:.1f} MB")
    macs, num_params = card["macs"] / 1e6, card["num_params"] / 1e6
    print(f"{folder / CARD}  {given.record.arch}: {macs:.4g} M MACs, {num_params:.3g} M parameters")


def _card(given: ExportSource) -> dict[str, Any]:
    from vkdnw_pl.spaces import SPACES
    from vkdnw_pl.training.exported import weights_digest

    record = given.record
    space = SPACES[record.space]
    card = {**asdict(record), "trained": given.trained, **asdict(space.cost(record.arch, **record.options))}
    if (reference := space.reference_cost(record.arch, **record.options)) is not None:
        card["reference"] = asdict(reference)
    facts = {"accuracy": None, "normalisation": None, **given.facts}
    weights = weights_digest(given.network.state_dict())
    return {**card, **facts, "versions": environment_record()["versions"], "weights": weights, "files": {}}


def _write_onnx(path: Path, given: ExportSource, card: dict[str, Any], opset: int) -> dict[str, Any]:
    from vkdnw_pl.training.onnx_file import INPUT, OUTPUT, TOLERANCE, OnnxMismatch, write_onnx

    record = given.record
    told = {"arch": record.arch, "space": record.space, "normalisation": json.dumps(card["normalisation"])}
    try:
        check = write_onnx(given.network, path, record.input_size, opset, told)
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

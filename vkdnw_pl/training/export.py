"""``export``: what its source is and what is known of it, and the files that it writes: weights, and a card about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import vkdnw_pl.data
from vkdnw_pl.callbacks import HISTORY, read_history
from vkdnw_pl.errors import CommandFailed, UsageError, user_input
from vkdnw_pl.networks.arch_file import TASK, is_arch_file, prepared_images
from vkdnw_pl.runs.documents import read_json, read_yaml
from vkdnw_pl.runs.environment import environment_record
from vkdnw_pl.runs.files import sha256_of, write_json
from vkdnw_pl.spaces import SPACES, make_space
from vkdnw_pl.spaces.base import check_imported
from vkdnw_pl.spaces.resolve import AUTO, ResolvedArch, resolve_arch
from vkdnw_pl.training.export_options import CARD, FILES, ExportOptions
from vkdnw_pl.training.exported import (
    CHECKED_BATCHES,
    INPUT,
    OUTPUT,
    TOLERANCE,
    WEIGHTS,
    NetworkRecord,
    OnnxMismatch,
    check_network_facts,
    exported_file,
    put_weights,
    read_checkpoint,
    read_exported,
    read_weights,
    record_fields,
    save_exported,
    weights_digest,
    write_onnx,
)
from vkdnw_pl.training.folder import TrainingFolder
from vkdnw_pl.training.image_record import IMAGE_FACTS, ImageRecord, check_image_record, image_record

FOUND = "found.json"
_OURS = "vkdnw_pl.data."


class Untrained(ValueError):
    """The source is an architecture without trained weights."""


@dataclass(frozen=True, kw_only=True)
class ExportSource:
    """A network with its weights, and what a card should say of them."""

    record: NetworkRecord
    network: nn.Module
    """In evaluation mode, on the CPU."""
    trained: bool
    facts: dict[str, Any] = field(default_factory=dict)
    """Further entries of the card: ``source``, ``accuracy``, ``data``."""
    run: Path | None = None
    """Run folder that the weights are from."""


def read_source(options: ExportOptions) -> ExportSource:
    """Find out what the source is, and make its network."""
    source = options.source
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, options)
    if is_arch_file(source):
        described = path.name == CARD and any((path.parent / name).is_file() for name in WEIGHTS)
        return _from_folder(path.parent, options) if described else _untrained(source, options)
    if path.is_file():
        return _from_file(path, options)
    return _untrained(source, options)


def _from_folder(path: Path, options: ExportOptions) -> ExportSource:
    folder = TrainingFolder(path)
    if any((path / name).is_file() for name in WEIGHTS):
        return _from_file(exported_file(path), options)
    command = folder.read_meta().get("command") if folder.meta.is_file() else None
    if command == "fit" or folder.checkpoints.is_dir():
        checkpoint = folder.checkpoint(options.checkpoint)
        if not checkpoint.is_file():
            existing = ", ".join(sorted(file.stem for file in folder.checkpoints.glob("*.ckpt"))) or "none"
            raise ValueError(f"checkpoint={options.checkpoint!r}: there is no {checkpoint} (there are: {existing})")
        return _from_file(checkpoint, options)
    if (path / FOUND).is_file():
        return _untrained(str(path / FOUND), options)
    raise ValueError(f"source={str(path)!r} is a folder without checkpoints, {FOUND} or {' or '.join(WEIGHTS)}")


def _from_file(path: Path, options: ExportOptions) -> ExportSource:
    content = read_checkpoint(path)
    if "hyper_parameters" in content:
        return _from_checkpoint(path, content, options)
    if "arch" in record_fields(content, path):
        return _from_exported(path, options)
    if options.arch is None:
        raise ValueError(f"source={str(path)!r} is a state dict without its architecture: say it with --arch")
    resolved = resolve_arch(options.arch, options.space)
    record = _record(resolved, {**resolved.task, **options.task}, options.network)
    network = _loaded(record, content, path)
    return ExportSource(record=record, network=network, trained=True, facts={"source": {"file": path.name}})


def _from_checkpoint(path: Path, content: Mapping[str, Any], options: ExportOptions) -> ExportSource:
    hparams = content["hyper_parameters"]
    known = ("arch", "space", "num_classes", "input_size")
    check_network_facts(hparams, f"source={str(path)!r}, hyper_parameters,", known)
    if refused := list(options.task):
        raise ValueError(f"{refused[0]} is not allowed here: {path} knows what its network was trained for")
    arch, space = hparams["arch"] if options.arch is None else options.arch, options.space
    if options.arch is None:
        space = _space_of_file(hparams["space"], options, path)
    try:
        resolved = resolve_arch(arch, space)
    except ValueError as error:
        hint = "; if the file has moved, say where with --arch" if options.arch is None and is_arch_file(arch) else ""
        raise ValueError(
            f"source={str(path)!r} is a network of {arch!r}, which cannot be read: {error}{hint}"
        ) from None
    channels, height, _ = hparams["input_size"]
    size = hparams.get("student_size") or height
    task = {"num_classes": hparams["num_classes"], "image_size": size, "in_channels": channels}
    record = _record(resolved, task, {**(hparams.get("network") or {}), **(options.network or {})})
    record = replace(record, resized_from=None if size == height else height)
    averaged = "current_model_state" in content  # by EMA
    progress = {"epoch": content.get("epoch"), "steps": content.get("global_step"), "averaged": averaged}
    facts = {"source": {"file": path.name, **progress}}
    folder = path.resolve().parent
    run = folder.parent if folder.name == "checkpoints" and (folder.parent / "meta.json").is_file() else None
    if run is not None:
        facts |= _facts_of_run(TrainingFolder(run), content)
    images = content.get("image_record")
    if images is not None:
        check_image_record(images, record.num_classes, f"source={str(path)!r}, image_record,")
        images = {name: images[name] for name in IMAGE_FACTS if images.get(name) is not None}
    elif run is not None:  # an older checkpoint
        images = _prepared_images(TrainingFolder(run), record.num_classes)
    record = replace(record, **(images or {}))
    network = _loaded(record, content, path)
    return ExportSource(record=record, network=network, trained=True, facts=facts, run=run)


def _space_of_file(name: str, options: ExportOptions, path: Path) -> str:
    """The space that a file says, which may be ``auto``, and the user perhaps too."""
    if options.space == AUTO:
        check_imported(name, f"source={str(path)!r}")
        return name
    key = make_space(options.space).key
    if name not in (AUTO, key):
        raise ValueError(f"space={options.space!r} is not allowed here: {path} has a network of {name!r}")
    return key


def _from_exported(path: Path, options: ExportOptions) -> ExportSource:
    if options.arch is not None or options.network or options.task:
        raise ValueError(f"arch, network, num_classes and image_size are not allowed here: {path} knows them")
    if options.space != AUTO:
        make_space(options.space)  # of a dotted name it is imported now
    record, state = read_exported(path)
    _space_of_file(record.space, options, path)
    network = record.build()
    put_weights(network, state, path)
    card: dict[str, Any] = {}
    if (path.parent / CARD).is_file():
        card = read_json(path.parent / CARD)
    if record.normalisation is None and card.get("normalisation"):  # of an older file only the card has it
        prepared_images(card, str(path.parent / CARD))
        record = replace(record, normalisation=card["normalisation"])
    kept: tuple[str, ...] = ("source", "accuracy", "data")
    facts = {name: card[name] for name in kept if name in card}
    trained = bool(card.get("trained", True))
    return ExportSource(record=record, network=network.eval(), trained=trained, facts=facts)


def _untrained(source: str, options: ExportOptions) -> ExportSource:
    if options.arch is not None:
        raise ValueError("arch is not allowed here: the source is an architecture already")
    resolved = resolve_arch(source, options.space)
    if not options.untrained:
        raise Untrained(f"source={source!r} has no trained weights: give a checkpoint or the run folder of fit")
    record = _record(resolved, {**resolved.task, **options.task}, options.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = record.build()
    facts: dict[str, Any] = {"source": {"seed": options.seed}}
    if is_arch_file(source):
        facts["source"]["file"] = Path(source).name
    return ExportSource(record=record, network=network.eval(), trained=False, facts=facts)


def _record(resolved: ResolvedArch, task: Mapping[str, Any], network: Mapping[str, Any] | None) -> NetworkRecord:
    options = {**resolved.network, **task, **(network or {})}
    space = SPACES[resolved.space]
    channels, height, width = space.input_size(**options)
    # Of timm: where weights come from is no property of the network that has them.
    kept = {name: value for name, value in options.items() if name not in (*TASK, "pretrained")}
    size, classes = [channels, height, width], space.num_classes(**options)
    return NetworkRecord(space=resolved.space, arch=resolved.arch, num_classes=classes, input_size=size, network=kept)


def _loaded(record: NetworkRecord, content: Mapping[str, Any], path: Path) -> nn.Module:
    network = record.build()
    put_weights(network, read_weights(content, path), path)
    return network.eval()


def _facts_of_run(folder: TrainingFolder, content: Mapping[str, Any]) -> dict[str, Any]:
    settings = folder.read_meta().get("settings", {})  # without what is of this machine, such as data.init_args.root
    return {
        "accuracy": _accuracy(folder, content) or None,
        "data": {name.removeprefix("data."): value for name, value in settings.items() if name.startswith("data.")},
    }


def _accuracy(folder: TrainingFolder, content: Mapping[str, Any]) -> dict[str, float]:
    """What was measured with exactly these weights: validation after that step, the test if they are the final ones."""
    step, metrics = content.get("global_step"), dict[str, float]()
    history = folder.path / HISTORY
    for values in read_history(history) if history.is_file() else ():
        if isinstance(step, int) and values.get("step") == step - 1:
            metrics |= _evaluation(values)
    last = folder.checkpoint("last")
    if folder.results.is_file() and last.is_file() and read_checkpoint(last).get("global_step") == step:
        metrics |= _evaluation(read_json(folder.results))
    return metrics


def _evaluation(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name.startswith(("val/", "test/"))}


def _prepared_images(folder: TrainingFolder, num_classes: int) -> ImageRecord:
    """How images were prepared, where our data module says it."""
    data = (read_yaml(folder.config) if folder.config.is_file() else {}).get("data")
    if not isinstance(data, dict):
        return {}
    path = str(data.get("class_path"))
    name = path.removeprefix(_OURS).rpartition(".")[2]
    if not path.startswith(_OURS) or name not in vkdnw_pl.data.DATA_MODULES:
        return {}
    try:
        module = getattr(vkdnw_pl.data, name)(**(data.get("init_args") or {}))
    except TypeError as error:
        raise ValueError(f"{folder.config} is damaged: data.init_args: {error}") from None
    return image_record(module, num_classes)


def make_card(source: ExportSource) -> dict[str, Any]:
    """What ``model.json`` says of a network, but for the digests of files."""
    record = source.record
    space = SPACES[record.space]
    card = {**asdict(record), "trained": source.trained, **asdict(space.cost(record.arch, **record.options))}
    if (reference := space.reference_cost(record.arch, **record.options)) is not None:
        card["reference"] = asdict(reference)
    facts = {"accuracy": None, **source.facts}
    weights = weights_digest(source.network.state_dict())
    return {**card, **facts, "versions": environment_record()["versions"], "weights": weights, "files": {}}


def kept_files(folder: Path, formats: Sequence[str], weights: str, overwrite: bool) -> dict[str, Any]:
    """Entries of the card for files that stay in the folder: those of the same weights (a digest) in other formats."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"out={str(folder)!r} is not allowed: it is a file")
    try:
        card = read_json(folder / CARD)
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
    """Write the network in all formats, then its card; returns the card with the digests of the files."""
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
        card["files"][path.name] = sha256_of(path)
    write_json(folder / CARD, card)
    return card


def _write_onnx(path: Path, source: ExportSource, card: dict[str, Any], opset: int) -> dict[str, Any]:
    record = source.record
    facts = {
        **{"arch": record.arch, "space": record.space, "input_size": record.input_size, "crop_pct": record.crop_pct},
        **{"interpolation": record.interpolation, "resized_from": record.resized_from},
        **{"class_names": record.class_names, **(record.normalisation or {})},
    }
    metadata = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
        if value is not None
    }
    try:
        with user_input():
            difference = write_onnx(source.network, path, record.input_size, opset, metadata)
    except OnnxMismatch as error:
        raise CommandFailed(f"{path} was not written: {error}") from error
    print(
        f"onnxruntime against PyTorch: largest difference of logits {difference:.1e} of the largest logit "
        f"(allowed {TOLERANCE:g}), batches of {' and '.join(map(str, CHECKED_BATCHES))} images"
    )
    shapes = {INPUT: ["batch", *record.input_size], OUTPUT: ["batch", record.num_classes]}
    return {"opset": opset, "shapes": shapes, "difference": difference, "tolerance": TOLERANCE}

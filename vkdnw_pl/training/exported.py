"""Files of weights, read safely; and a network as a file of its own (state dict, safetensors, ONNX), to be built again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vkdnw_pl.errors import CommandFailed, check_whole, first_line, is_whole
from vkdnw_pl.networks.arch_file import prepared_images
from vkdnw_pl.runs.documents import parse_json
from vkdnw_pl.runs.files import replaced, sha256_of
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.spaces.base import check_imported
from vkdnw_pl.training.export_options import CARD
from vkdnw_pl.training.image_record import check_image_record

SAFETENSORS = ".safetensors"
WEIGHTS = ("model.pt", "model.safetensors")
"""Files of weights in an export's folder, in the order in which they are looked for."""
OPSET = 18
"""The oldest opset of ONNX that both of PyTorch's exporters write themselves."""
TOLERANCE = 1e-4
"""Largest allowed difference of an ONNX file's logits, as a share of the largest logit."""
INPUT, OUTPUT = "images", "logits"
CHECKED_BATCHES = (1, 3)
_MARKED_FOLDER = 0x10  # among a part's attributes in a zip file
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

# The exporter on top of torch.export is PyTorch's default from 2.9 on; the one of 2.6 fails on a batch of any size here.
_BY_TORCH_EXPORT = torch.__version__ >= (2, 9)  # type: ignore[operator]


class OnnxMismatch(RuntimeError):
    """The ONNX file does not compute what the network computes."""


def put_weights(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict that was read from ``path``."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"weights={str(path)!r} are those of another network: {' '.join(str(error).split())}"
        ) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a file that torch.save or safetensors wrote, if it is whole and can be read without running its code."""
    if not path.is_file():
        raise ValueError(f"weights={str(path)!r}: there is no such file")
    if path.suffix.lower() == ".onnx":
        raise ValueError(
            f"weights={str(path)!r} is for onnxruntime: give a run folder, a checkpoint, or what export wrote as state_dict or "
            "safetensors"
        )
    _check_digest(path)
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        content = read_saved(path)
    except Exception as error:
        reason = first_line(error)
        raise ValueError(f"weights={str(path)!r} is not a file of weights that can be read safely: {reason}") from None
    if not isinstance(content, dict):
        raise ValueError(f"weights={str(path)!r} holds no state dict")
    return content


def read_saved(path: Path) -> Any:
    """What torch.save wrote, read without running code from it, once every byte has the checksum that the file says."""
    check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_archive(path: Path) -> None:
    """Refuse a zip file, as torch.save writes them, with a damaged part: PyTorch itself does not look at the checksums."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (part := archive.testzip()) is not None:
                raise ValueError(f"it is damaged: its part {part} does not have the checksum that was written with it")
            # Of what is marked as a folder PyTorch reads nothing, and takes what memory holds for the weights.
            if folders := [info.filename for info in archive.infolist() if info.external_attr & _MARKED_FOLDER]:
                raise ValueError(f"it is damaged: its part {folders[0]} is marked as a folder")


def _check_digest(path: Path) -> None:
    """Refuse an exported file that is not the one of which the card beside it speaks."""
    try:
        digest = json.loads(path.with_name(CARD).read_text(encoding="utf-8"))["files"][path.name]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return  # there is no card, or it is not about this file
    if (found := sha256_of(path)) != digest:
        raise ValueError(
            f"weights={str(path)!r} is damaged, or another file than the one that {CARD} beside it is about: its SHA-256 "
            f"is {found}, not {digest}"
        )


def read_weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The network's state dict of what `read_checkpoint` read from ``path``.

    Args:
        content: a state dict, ``{"state_dict": ...}`` as ``export`` writes it, or a checkpoint of ``fit`` (whose names
            begin with ``network.``; with EMA these are the averaged weights; a teacher's parts are left out).
        path: for the error.
    """
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not state:
        raise ValueError(f"weights={str(path)!r} holds no state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"weights={str(path)!r} holds no state dict: {name!r} is a {type(value).__name__}, not a tensor with a name"
            )
    prefix = "network."
    if any(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return state


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "arch": ("a text", lambda value: isinstance(value, str)),
    "space": ("a text", lambda value: isinstance(value, str)),
    "network": ("options by name, or null", lambda value: value is None or _is_named(value)),
    "num_classes": ("a whole number of at least 1", lambda value: is_whole(value, 1)),
    "input_size": (
        "channels, height and width, whole numbers of at least 1",
        lambda value: isinstance(value, list) and len(value) == 3 and all(is_whole(one, 1) for one in value),
    ),
    "student_size": ("a whole number of at least 1, or null", lambda value: value is None or is_whole(value, 1)),
    "resized_from": ("a whole number of at least 1, or null", lambda value: value is None or is_whole(value, 1)),
}
"""What a checkpoint, or an exported file, says of its network: what it must be, in words and as a test."""


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def check_network_facts(facts: Any, where: str, needed: Sequence[str] = ()) -> None:
    """Refuse what a file says of its network where it is of the wrong kind; ``where`` is how texts call file and key."""
    if not isinstance(facts, dict):
        raise ValueError(f"{where} is damaged: it is a {type(facts).__name__}, not options by name")
    if missing := [name for name in needed if name not in facts]:
        raise ValueError(f"{where} is no network's: {', '.join(missing)} missing")
    for name, (kind, is_kind) in _KINDS.items():
        if name in facts and not is_kind(facts[name]):
            raise ValueError(f"{where} is damaged: {name} is {facts[name]!r:.80}, it must be {kind}")


def check_checkpoint(path: Path, module: nn.Module, hparams: Mapping[str, Any], loops: Mapping[str, Any]) -> None:
    """Make sure that ``path`` is a whole checkpoint of a training of ``module``, down to the kinds of its values.

    Args:
        path: of the checkpoint.
        module: that is to go on; its weights' names and shapes count.
        hparams: its hyper-parameters; those that say which network it is count.
        loops: state of a trainer's loops, by name; the kinds of its values count.
    """
    where = f"ckpt_path={str(path)!r}"
    try:
        content: Any = read_saved(path)
    except Exception as error:
        reason = first_line(error)
        raise ValueError(f"{where} is damaged, or no checkpoint of a training: {reason}") from None
    if not isinstance(content, dict) or "state_dict" not in content or "loops" not in content:
        raise ValueError(f"{where} is no checkpoint of a training; model.weights takes bare weights")
    saved = content.get("hyper_parameters", {})
    check_network_facts(saved, f"{where}, hyper_parameters,")
    for name in _KINDS:
        if name in saved and saved[name] != hparams.get(name):
            value = f"{saved[name]!r} there, {hparams.get(name)!r} here"
            raise ValueError(f"{where} is of another network: {name} is {value}")
    for name in ("epoch", "global_step"):
        _check_like(content.get(name), 0, f"{where} is damaged: {name}")
    _check_like(content["loops"], loops, f"{where} is damaged: loops")
    weights = module.state_dict()
    for key in ("state_dict", "current_model_state"):
        if key in content:
            _check_like(content[key], weights, f"{where} is damaged: {key}")
    if more := [name for name in content["state_dict"] if name not in weights]:
        raise ValueError(f"{where} is of another network: {more[0]!r} is no weight of the one here")
    _check_optimizers(content.get("optimizer_states", []), f"{where} is damaged: optimizer_states")
    _check_list(content.get("lr_schedulers", []), {"last_epoch": 0}, f"{where} is damaged: lr_schedulers")
    _check_like(content.get("callbacks", {}), {}, f"{where} is damaged: callbacks")


def _check_like(value: Any, pattern: Any, where: str) -> None:
    """Refuse a value that is not of the kind of a pattern: tensors of its shape, dicts with its names, whole numbers."""
    if isinstance(pattern, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is a {type(value).__name__}, not values by name")
        for name, part in pattern.items():
            if name not in value:
                raise ValueError(f"{where} has no {name!r}")
            _check_like(value[name], part, f"{where}, {name}")
    elif isinstance(pattern, Tensor):
        found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        if not isinstance(value, Tensor) or value.shape != pattern.shape:
            raise ValueError(f"{where} is {found}, not a tensor {tuple(pattern.shape)}")
    elif isinstance(pattern, int) and not (
        isinstance(value, bool) if isinstance(pattern, bool) else is_whole(value, 0)
    ):
        needed = "true or false" if isinstance(pattern, bool) else "a whole number of at least 0"
        raise ValueError(f"{where} is {value!r:.80}, it must be {needed}")


def _check_list(values: Any, pattern: Any, where: str) -> None:
    if not isinstance(values, list):
        raise ValueError(f"{where} is a {type(values).__name__}, not a list")
    for i, value in enumerate(values):
        _check_like(value, pattern, f"{where}[{i}]")


def _check_optimizers(states: Any, where: str) -> None:
    _check_list(states, {"state": {}, "param_groups": None}, where)
    for i, state in enumerate(states):
        _check_list(state["param_groups"], {}, f"{where}[{i}], param_groups")
        for number, values in state["state"].items():
            _check_like(values, {}, f"{where}[{i}], state, {number}")
            for name, value in values.items():
                if value is not None and not isinstance(value, Tensor | int | float):
                    kind = f"a {type(value).__name__}, neither a tensor nor a number"
                    raise ValueError(f"{where}[{i}], state, {number}, {name} is {kind}")


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """What a network is, apart from its weights. Plain values only."""

    space: str
    arch: str
    """Canonical string."""
    num_classes: int
    input_size: list[int]
    """Channels, height, width of the images."""
    network: dict[str, Any] = field(default_factory=dict)
    """Further options of the space's network."""
    normalisation: dict[str, list[float]] | None = None
    """``mean`` and ``std`` of what it was trained on, for white = 1; None where they are not known."""
    crop_pct: float = 1.0
    """Image size over the shorter side to which an image is resized before it is cropped."""
    interpolation: str | None = None
    """How it is resized, such as ``bicubic``; None where that is not known."""
    resized_from: int | None = None
    """Height and width of the prepared images, if they are then resized (bilinear, as tensors) to ``input_size``."""
    class_names: list[str] | None = None
    """In the order of the logits; None where they are not known."""
    format: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the space's ``build`` and ``cost``."""
        channels, size, _ = self.input_size
        return {**self.network, "num_classes": self.num_classes, "image_size": size, "in_channels": channels}

    def build(self) -> nn.Module:
        """The network with PyTorch's default initialisation.

        It has ``class_names``, a tuple or None, and ``timm.data`` finds in it how its images are prepared.
        """
        network: Any = SPACES[self.space].build(self.arch, **self.options)
        network.pretrained_cfg = {
            **getattr(network, "pretrained_cfg", {}),
            **prepared_images(asdict(self), "the network"),
        }
        network.class_names = None if self.class_names is None else tuple(self.class_names)
        return network


def save_exported(path: Path, record: NetworkRecord, state: Mapping[str, Tensor]) -> None:
    """Replace ``model.pt`` (torch.save of the record's fields and ``state_dict``) or a ``.safetensors`` file.

    A safetensors file has the record as JSON in its metadata.
    """
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with replaced(path) as draft:
        # Through memory: of a full disk Python says what it is, PyTorch and safetensors raise errors of their own.
        if path.suffix == SAFETENSORS:
            from safetensors.torch import save

            metadata = {"format": "pt", "arch": record.arch, "vkdnw_pl": json.dumps(asdict(record))}
            draft.write_bytes(save(copies, metadata))
        else:
            buffer = io.BytesIO()
            torch.save({**asdict(record), "state_dict": copies}, buffer)
            draft.write_bytes(buffer.getbuffer())


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict: names, types, shapes and bytes, in whatever file they are."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_exported(path: str | Path) -> tuple[NetworkRecord, dict[str, Tensor]]:
    """Record and state dict of an exported file, or of a folder with one."""
    path = exported_file(path)
    content = read_checkpoint(path)
    fields = record_fields(content, path)
    check_network_facts(fields, str(path), ("space", "arch", "num_classes", "input_size"))
    check_image_record(fields, fields["num_classes"], str(path))
    record = NetworkRecord(**{name: fields[name] for name in NetworkRecord.__dataclass_fields__ if name in fields})
    if record.format != 1:
        raise ValueError(f"{path} has format {record.format!r}, which this version cannot read")
    check_imported(record.space, str(path))
    try:
        space = SPACES[record.space]
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    space.validate(record.arch)
    return record, read_weights(content, path)


def record_fields(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Fields of `NetworkRecord` (``arch`` among them) in what `read_checkpoint` read from ``path``, if it is exported."""
    if path.suffix != SAFETENSORS:
        return content
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        text = (opened.metadata() or {}).get("vkdnw_pl", "{}")
    return parse_json(text, f"{path}, vkdnw_pl in its metadata,")


def exported_file(path: str | Path) -> Path:
    """The file of weights that is meant by a path: the file itself, or that of an export's folder."""
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise ValueError(f"{path} holds no exported network ({' or '.join(WEIGHTS)})")


def load_exported(path: str | Path) -> nn.Module:
    """The network of an exported file or folder, with its weights, in evaluation mode.

    Its ``class_names`` are a tuple, or None where they are not known; ``timm.data.resolve_model_data_config(network)``
    gives how its images are prepared.

    Args:
        path: ``model.pt``, ``model.safetensors``, or the folder that ``export`` wrote.

    Raises:
        ValueError: if it cannot be read safely, or is no exported network.
    """
    record, state = read_exported(path)
    network = record.build()
    put_weights(network, state, exported_file(path))
    return network.eval()


def check_onnx(opset: int) -> None:
    """Make sure that ONNX files of this opset can be written: ``CommandFailed`` where a package is not installed."""
    check_whole("opset", opset, OPSET)
    if missing := [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]:
        install = "pip install 'vkdnw_pl[onnx]' (or: pip install onnx onnxscript onnxruntime)"
        raise CommandFailed(f"the format onnx needs {', '.join(missing)}: {install}")


def write_onnx(
    network: nn.Module,
    path: Path,
    input_size: Sequence[int],
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> float:
    """Write an ONNX file with a batch of any size, checked with onnxruntime before it takes its name.

    The network is on the CPU and maps images (B, C, H, W) of ``input_size`` (C, H, W) to logits (B, K); ``metadata`` are
    texts that the file carries along. Returns what `compare` does; an opset that the exporter does not write is a
    ``ValueError``.
    """
    import onnx

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


def compare(network: nn.Module, path: Path, input_size: Sequence[int], seed: int = 0) -> float:
    """Largest difference between logits of an ONNX file and of its network, as a share of the largest logit.

    Raises:
        OnnxMismatch: if logits differ by more than `TOLERANCE`, or one is not finite.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(seed)
    difference = 0.0
    for batch in CHECKED_BATCHES:
        images = torch.randn(batch, *input_size, generator=generator)
        expected = _logits(network, images)
        (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
        scale = float(expected.abs().max()) or 1.0
        apart = float((torch.from_numpy(logits) - expected).abs().max())
        difference = max(difference, apart / scale)
        if not apart <= TOLERANCE * scale:  # also where it is not a number
            raise OnnxMismatch(
                f"logits of the ONNX file differ by {apart:.3g} from PyTorch's; allowed is {TOLERANCE:g} of {scale:.3g}"
            )
    return difference


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    logits = network(images)
    if not logits.isfinite().all():
        raise OnnxMismatch("the network's own logits are not finite, so that nothing can be compared")
    return logits


def _export(network: nn.Module, images: Tensor, path: Path, opset: int) -> None:
    options: dict[str, Any] = dict(input_names=[INPUT], output_names=[OUTPUT], opset_version=opset)
    if _BY_TORCH_EXPORT:
        batch = torch.export.Dim("batch", min=1)
        options |= dict(dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False)
    else:
        options |= dict(dynamo=False, dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}})
    torch.onnx.export(network, (images,), str(path), **options)


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

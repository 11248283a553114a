"""Options of ``export``. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vkdnw_pl.errors import check_choice
from vkdnw_pl.options import WandbOptions

FILES = {"state_dict": "model.pt", "safetensors": "model.safetensors", "onnx": "model.onnx"}
"""Format -> file in the folder; beside them `CARD`."""
CARD = "model.json"


@dataclass(frozen=True, kw_only=True)
class ExportOptions(WandbOptions):
    """Options of ``export``."""

    source: str
    """What to export: the run folder of fit, one of its checkpoints, an exported network (to write it in another format), or,
    with --untrained true, a found.json, an architecture string or a name (mbv2_480m)."""
    out: str | None = None
    """Folder for the files. Default: the folder export in the run folder of fit."""
    format: str | list[str] = "state_dict"
    """One or several of state_dict (model.pt: weights, architecture and options, for load_exported, fit --model.weights and
    timm's checkpoint_path), safetensors (model.safetensors, the same), onnx (model.onnx with a batch of any size, checked
    with onnxruntime; needs the extra onnx); for example state_dict,onnx."""
    checkpoint: str = "best"
    """Which checkpoint of a run folder: best, last or epoch_N."""
    untrained: bool = False
    """Export random weights where the source has none."""
    arch: str | None = None
    """Architecture (string, name or found.json) of a source that does not say it, such as a bare state dict, or where the
    found.json that was trained has moved."""
    space: str = "auto"
    """Search space of an architecture string, or auto."""
    network: dict[str, Any] | None = None
    """Options of the space's network where the source does not know them, for example '{use_se: true}'."""
    num_classes: int | None = None
    """Number of logits, for a source that was not trained; default: what the search had, else the space's."""
    image_size: int | None = None
    """Height and width of the images, likewise."""
    seed: int = 0
    """Of the random weights."""
    opset: int = 18
    """Version of ONNX's operators, at least 18."""
    overwrite: bool = False
    """Replace files of an earlier export."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self._format_names():
            check_choice("format", name, FILES)

        if "onnx" not in self.formats:
            self.refuse("without format=onnx", "opset")

    @property
    def formats(self) -> list[str]:
        """Formats to write, in the order of `FILES`."""
        return [name for name in FILES if name in self._format_names()]

    @property
    def task(self) -> dict[str, int]:
        """Options of the network that are options of their own here."""
        sizes = {"num_classes": self.num_classes, "image_size": self.image_size}
        return {name: value for name, value in sizes.items() if value is not None}

    def _format_names(self) -> list[str]:
        names = self.format.split(",") if isinstance(self.format, str) else self.format
        return [name.strip() for name in names]

"""The command ``export``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.options import as_config
from vkdnw_pl.runs.environment import environment_record
from vkdnw_pl.runs.folder import check_out, remove_wandb
from vkdnw_pl.tracking.run import WandbRun, wandb_run
from vkdnw_pl.training.export_options import CARD, FILES, ExportOptions


def export(options: ExportOptions) -> int:
    """Write a trained network as a state dict with its architecture, as safetensors, or as ONNX.

    OUT/model.json says what the network is: architecture, MACs, parameters, classes, the accuracy that was measured with
    these weights, how its images are normalised. With EMA the weights are the averaged ones.

    Returns:
        0 if every file is written and right, 1 if the ONNX file does not compute what the network computes.
    """
    if "onnx" in options.formats:
        from vkdnw_pl.training.exported import check_onnx

        with user_input():
            check_onnx(options.opset)
    from vkdnw_pl.training.export import Untrained, kept_files, make_card, read_source, write_files  # imports torch

    with user_input():
        try:
            source = read_source(options)
        except Untrained as error:
            raise UsageError(f"{error}, or --untrained true for random weights (of --seed)") from error
        if options.out is not None:
            folder = Path(options.out).expanduser()
        elif source.run is not None:
            folder = source.run / "export"
        else:
            raise UsageError("out is missing: give the folder for the files with --out")
        check_out(folder)
        card = make_card(source)
        kept = kept_files(folder, options.formats, card["weights"], options.overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    if not source.trained:
        print(f"note: these weights are not trained (seed {options.seed})", file=sys.stderr)
    card = write_files(folder, options.formats, source, card | kept, options.opset)
    for name in options.formats:
        print(f"{folder / FILES[name]}  {(folder / FILES[name]).stat().st_size / 1e6:.1f} MB")
    macs, num_params = card["macs"] / 1e6, card["num_params"] / 1e6
    print(f"{folder / CARD}  {card['arch']}: {macs:.4g} M MACs, {num_params:.3g} M parameters")
    if options.overwrite:
        remove_wandb(folder)
    meta = {"command": "export", "environment": environment_record()}
    with wandb_run(options, as_config(replace(options, out=str(folder))), folder, "export", meta) as run:
        _log_export(run, folder, options.formats, card)
    return 0


def _log_export(run: WandbRun, folder: Path, formats: Sequence[str], card: Mapping[str, Any]) -> None:
    """The files as an artifact ``model``, and what their card says in the summary."""
    facts = {name: card[name] for name in ("space", "arch", "macs", "num_params", "weights", "trained")}
    accuracy = card["accuracy"] if isinstance(card["accuracy"], dict) else {}
    run.summary(facts | {name: value for name, value in accuracy.items() if isinstance(value, int | float)})
    run.artifact("model", [folder / CARD, *(folder / FILES[name] for name in formats)])

"""Help of ``fit``, ``validate``, ``test`` and ``predict`` in a second: read from the sources, without importing torch."""

from __future__ import annotations

import ast
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

import docstring_parser

import vkdnw_pl
from vkdnw_pl.data import DATA_MODULES
from vkdnw_pl.option_parser import describe_options
from vkdnw_pl.options import WandbOptions

_PACKAGE = Path(vkdnw_pl.__file__).parent
_ABOUT = {
    "fit": "Train a network. The same command continues a training that was interrupted.",
    "validate": "Evaluate a trained network on the validation images.",
    "test": "Evaluate a trained network on the test images.",
    "predict": "Write a trained network's predictions to predictions.csv: for the test images, or for pictures of your own.",
}
_RUN_FOLDER = (
    "Run folder of fit: its network, checkpoint and data. Options behind it replace the run's, such as --data.root DIR."
)
_RUN = {
    "-c, --config FILE": "YAML file with options; those of the command line replace its values. A run folder's config.yaml is one.",
    "--out DIR": "Run folder. Default: a name made from the settings, below runs/.",
    "--ckpt_path FILE": "{checkpoint}",
    "--seed_everything N": "Of the initialisation, the order of images, augmentation and mixup. [default: 0]",
}
_PREDICT = {
    "--images DIR": "Label pictures of your own in place of the test images: a folder of any depth, or one picture. RUN may "
    "then be a checkpoint or an export too, and its images are not needed. Its options: predict --images --help",
}
_WANDB_VALUES = {"wandb": "[PROJECT]", "wandb_group": "NAME", "wandb_tags": "'[A, B]'"}
_CHECKPOINT = {
    "fit": "Checkpoint to continue from; last is the run folder's, which is the default where there is one.",
    "other": "Checkpoint to evaluate: a file, last, or best (the default); none for the network as it is built.",
}
_FIT = {
    "--overwrite true": "Delete what a training left in the run folder, and begin anew.",
    "--test_after false": "Do not test the final weights.",
}
_TRAINER = {
    "max_epochs": "How long to train.",
    "accelerator, devices, num_nodes": "Where: auto, cpu, gpu; how many, on how many machines.",
    "strategy": "ddp for several devices, with one process each.",
    "precision": "bf16-mixed, 16-mixed, 32-true, 64-true.",
    "accumulate_grad_batches": "Batches per step of the optimizer; they count for the global batch.",
    "gradient_clip_val": "Largest norm of the gradient.",
    "sync_batchnorm": "Batch norm over all processes.",
    "deterministic": "true for results that repeat bit by bit on one kind of device.",
    "callbacks, logger": "More of them, such as ProxyCallback, EMA, WandbLogger.",
}
_OPTION_GROUPS = {
    "optimizer": ("optimizer.py", "OptimizerOptions"),
    "schedule": ("optimizer.py", "ScheduleOptions"),
    "teacher": ("teacher.py", "TeacherOptions"),
}
"""Option of the module -> file and name of its class."""


@dataclass(frozen=True)
class ClassHelp:
    """What the source of a class says of it."""

    summary: str
    arguments: dict[str, str]
    """Name -> text."""
    defaults: dict[str, str]


def class_help(path: Path, name: str) -> ClassHelp:
    """Read the docstring and the defaults of a class from its source."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    parsed = docstring_parser.parse(ast.get_docstring(cls) or "", docstring_parser.DocstringStyle.GOOGLE)
    defaults: dict[str, str] = {}
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            defaults[node.target.id] = _default(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            positional = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            pairs = [*zip(positional, node.args.defaults), *zip(node.args.kwonlyargs, node.args.kw_defaults)]
            defaults |= {argument.arg: _default(value) for argument, value in pairs if value is not None}
    texts = {item.arg_name: " ".join((item.description or "").split()) for item in parsed.params}
    return ClassHelp(parsed.short_description or "", texts, defaults)


def train_help(command: str, prog: str) -> str:
    """Text for ``--help``."""
    checkpoint = _CHECKPOINT["fit" if command == "fit" else "other"]
    run = {name: text.format(checkpoint=checkpoint) for name, text in _RUN.items()}
    run |= {f"--{option.name} {_WANDB_VALUES[option.name]}": option.help for option in describe_options(WandbOptions)}
    place = "" if command == "fit" else " [RUN]"
    lines = [f"usage: {prog}{place} [--config FILE] [OPTIONS]", "", _ABOUT[command], ""]
    run = run | _FIT if command == "fit" else {"RUN": _RUN_FOLDER} | run
    run |= _PREDICT if command == "predict" else {}
    lines += ["run:", *_table(run)]
    lines += ["", "model (--model.NAME VALUE, or below model: in YAML):", *_model()]
    modules = {name: class_help(_PACKAGE / "data" / f"{file}.py", name).summary for name, file in DATA_MODULES.items()}
    lines += [
        "",
        "data (--data DIR, your images, or --data CLASS; --data.NAME VALUE, or class_path and init_args in YAML):",
        *_table(modules),
    ]
    lines += ["", "trainer, often used (--trainer.NAME VALUE; all of Lightning's are allowed):", *_table(_TRAINER)]
    lines += [
        "",
        f"all options:            {prog} --help=all",
        f"options of a class:     {prog} --data.help CIFAR10, --trainer.callbacks.help ProxyCallback",
        "environment variables: none is an option here (LightningCLI's PL_FIT__... are not read)",
        f"resolved options:       {prog} --config FILE --print_config",
        f"as jobs of a cluster:   {prog} ... --launch slurm; its options: {prog} --launch --help",
        f"to begin:               {prog.rpartition(' ')[0]} fit --config configs/digits_quick.yaml",
    ]
    return "\n".join(lines)


def _model() -> list[str]:
    module = class_help(_PACKAGE / "training" / "module.py", "TrainingModule")
    rows: dict[str, str] = {}
    for name, text in module.arguments.items():
        if name in ("num_classes", "input_size", "seed"):
            continue  # linked: they come from the data module and --seed_everything
        if name not in _OPTION_GROUPS:
            rows[name] = _with_default(text, module.defaults.get(name))
            continue
        file, options = _OPTION_GROUPS[name]
        group = class_help(_PACKAGE / "training" / file, options)
        rows[name] = text
        rows |= {f"{name}.{key}": _with_default(line, group.defaults.get(key)) for key, line in group.arguments.items()}
    return _table(rows)


def _with_default(text: str, default: str | None) -> str:
    return text if default in (None, "null") else f"{text} [default: {default}]"


def _table(rows: dict[str, str]) -> list[str]:
    width = min(shutil.get_terminal_size().columns - 2, 118)
    lines = []
    for name, text in rows.items():
        wrapped = textwrap.wrap(text, width - 26) or [""]
        head = f"  {name}"
        lines += [head.ljust(26) + wrapped[0]] if len(head) < 26 else [head, " " * 26 + wrapped[0]]
        lines += [" " * 26 + line for line in wrapped[1:]]
    return lines


def _default(node: ast.expr) -> str:
    """A default as it is written in YAML."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return "null"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))

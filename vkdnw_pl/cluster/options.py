"""The options of ``--launch``: told apart from those of the command, and turned into options of sbatch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from time import gmtime, strftime
from typing import Literal

from vkdnw_pl.errors import UsageError, check_whole, nearest
from vkdnw_pl.option_parser import CommandParser

TRAINING = ("fit", "validate", "test", "predict")
LAUNCHED = ("score", "search", "label", *TRAINING, "evaluate")
"""Commands that can be launched."""

_OURS = ("array", "output", "error", "open-mode", "no-requeue", "parsable", "wrap", "wait", "test-only", "dependency", "chdir",
         "clusters")  # fmt: skip
_OURS_SHORT = {"a": "array", "o": "output", "e": "error", "W": "wait", "d": "dependency", "D": "chdir", "M": "clusters"}
_SIGNAL_S = 120
"""How long before its time limit a task is told, by the head of the scripts."""
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FORMS = {
    "array": (r"[1-9]\d{0,6}(%[1-9]\d{0,6})?", "give how many tasks, such as 64, or 64%8 for 8 of them at once"),
    "gpus": (r"([\w.-]+:)?[1-9]\d*", "give how many, such as 1, or with their type, such as a100:4"),
    "mem": (r"(?i)[1-9]\d*[KMGT]B?", "give a whole number with K, M, G or T, such as 16G"),
    "dependency": (
        r"singleton|after\w*:[\d_+:]+([,?]after\w*:[\d_+:]+)*",
        "give a condition and numbers of jobs, such as afterok:123 or afterany:123:124",
    ),
    **dict.fromkeys(("partition", "account", "qos", "job_name"), (r"\S+", "give a name without spaces")),
}
"""Option -> how its value is written, as a pattern and in words."""


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Submit the command to SLURM. The same line again submits what failed or is missing, and only that."""

    launch: Literal["slurm"] = "slurm"
    """Submit the command to SLURM in place of running it here."""
    array: str | None = None
    """score, label: cut the work into N tasks, joined by a job after them; N%M lets M of them run at once. fit: train the best N
    networks of --model.arch found.json."""
    time: str | None = None
    """Time limit of a task, such as 90m, 2h, 1d12h or 1-00:00:00. A task that reaches it stops in order, goes back into
    the queue and continues."""
    partition: str | None = None
    """Partition."""
    account: str | None = None
    """Account."""
    qos: str | None = None
    """Quality of service."""
    gpus: str | None = None
    """GPUs of a task (of each node, with --nodes), such as 1 or a100:4."""
    cpus: int | None = None
    """CPU cores of a task."""
    mem: str | None = None
    """Memory of each node, such as 16G."""
    nodes: int | None = None
    """search, fit: machines."""
    job_name: str | None = None
    """Name in the queue. Default: vkdnw-COMMAND."""
    dependency: str | None = None
    """Begin after other jobs, such as afterok:123."""
    sbatch: list[str] | str = field(default_factory=list)
    """More options of sbatch, such as '[--constraint=a100]'."""
    dry_run: bool = False
    """Print what would be submitted, and write and submit nothing."""
    wait: bool = False
    """Follow the jobs until all have ended."""

    def __post_init__(self) -> None:
        for name, (pattern, words) in _FORMS.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(pattern, value):
                raise ValueError(f"{name}={value!r} is not allowed: {words}")
        for name in ("cpus", "nodes"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        for option in self.sbatch_options:
            _check_sbatch(option)
        has_signal = any(option.startswith("--signal=") for option in self.sbatch_options)
        if self.time is not None and read_time(self.time) <= _SIGNAL_S and not has_signal:
            raise ValueError(
                f"time={self.time!r} is not allowed: a task stops {_SIGNAL_S} s before its time limit, so give it more, "
                "or tell it later with --sbatch '[--signal=USR1@30]'"
            )

    @property
    def num_tasks(self) -> int | None:
        """Tasks of the array."""
        return None if self.array is None else int(self.array.partition("%")[0])

    @property
    def at_once(self) -> int | None:
        """How many tasks of the array may run at the same time."""
        return int(self.array.partition("%")[2]) if self.array and "%" in self.array else None

    @property
    def gpu_count(self) -> int | None:
        """GPUs of each node."""
        return None if self.gpus is None else int(self.gpus.rpartition(":")[2])

    @property
    def sbatch_options(self) -> list[str]:
        """What ``sbatch`` holds, as a list."""
        return [self.sbatch] if isinstance(self.sbatch, str) else self.sbatch

    def resources(self) -> list[str]:
        """Options of sbatch for what a task needs and where it runs."""
        return [
            *_written({"time": None if self.time is None else slurm_time(read_time(self.time))}),
            *self.merge_resources(),
            *_written({"gpus-per-node": self.gpus, "cpus-per-task": self.cpus}),
            *_written({"mem": None if self.mem is None else self.mem.upper().removesuffix("B"), "nodes": self.nodes}),
            *self.sbatch_options,
        ]

    def merge_resources(self) -> list[str]:
        """Options of sbatch for where the small job runs that joins the parts."""
        return _written({"partition": self.partition, "account": self.account, "qos": self.qos})


_NAMES = [option.name for option in fields(LaunchOptions)]
_SWITCHES = ("dry_run", "wait")
_OF_COMMANDS = {"search": ("nodes",)}
"""Options of a command that are named like one of ``--launch``."""


def is_launch(command: str, arguments: Sequence[str]) -> bool:
    """Whether these arguments of a command ask to launch it; a ``UsageError`` if that cannot be."""
    names = [name for name in map(launch_option, arguments) if name is not None]
    if command not in LAUNCHED:
        if "launch" in names:
            raise UsageError(f"--launch is not for {command}; it is for {', '.join(LAUNCHED)}")
        return False
    if "launch" in names:
        return True
    for name in names:
        if name not in _OF_COMMANDS.get(command, ()):
            raise UsageError(f"--{name} is an option of --launch; add --launch slurm, or leave it out")
    return False


def split_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of ``--launch`` as ``--name=value``, and the arguments of the command as they were."""
    launch_arguments: list[str] = []
    command_arguments: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        name = launch_option(argument)
        if name is None:
            command_arguments.append(argument)
            continue
        _, equals, value = argument.partition("=")
        if not equals and name in _SWITCHES:
            value = remaining.pop(0) if remaining[:1] in (["true"], ["false"]) else "true"
        elif not equals:
            if not remaining or remaining[0].startswith("--"):
                raise UsageError(f"--{name} needs a value")
            value = remaining.pop(0)
        launch_arguments.append(f"--{name}={value}")
    return launch_arguments, command_arguments


def launch_option(argument: str) -> str | None:
    """Name of the option of ``--launch`` that an argument is, if it is one; ``--dry-run`` is ``--dry_run``."""
    name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
    return name if argument.startswith("--") and name in _NAMES else None


def nearest_option(flag: str) -> str:
    """``; did you mean '--x'?`` for a mistyped option of ``--launch``, or an empty text."""
    return nearest(flag, [f"--{name}" for name in _NAMES], cutoff=0.8)


def read_options(arguments: Sequence[str], prog: str) -> LaunchOptions:
    """Read and check the options that `split_options` found, or ``--help``, of the command that is called by ``prog``."""
    note = (
        "Values of the cluster (partition, account, modules, environment, ...) can stand in slurm/site.env.\n"
        f"what became of the jobs: {prog.rpartition(' ')[0]} status OUT [--wait] [--resubmit]\n"
        f"options of the command: {prog} --help"
    )
    parser = CommandParser(LaunchOptions, f"{prog} OPTIONS OF THE COMMAND... --launch slurm", note, config_file=False)
    return parser.parse(arguments)


def read_time(text: str) -> int:
    """Seconds of ``90m``, ``1d12h``, ``hours:minutes:seconds`` or ``days-hours:minutes:seconds``."""
    seconds = 0
    if clock := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text):
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    elif re.fullmatch(r"(\d+[dhms])+", text):
        seconds = sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([dhms])", text))
    if seconds == 0:
        unit = " (it has no unit)" if text.isdecimal() else ""
        raise ValueError(
            f"time={text!r} is not allowed{unit}: give 90m, 2h, 1d12h, hours:minutes:seconds such as 02:00:00, or "
            "days-hours:minutes:seconds such as 1-00:00:00"
        )
    return seconds


def slurm_time(seconds: int) -> str:
    """Write seconds as ``days-hours:minutes:seconds``."""
    return f"{seconds // 86400}-{strftime('%H:%M:%S', gmtime(seconds))}"


def _written(values: Mapping[str, str | int | None]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def _check_sbatch(option: str) -> None:
    name = option.lstrip("-").partition("=")[0]
    if not option.startswith("-"):
        raise ValueError(
            f"sbatch={option!r} is not allowed: give a list of options, such as '[--constraint=a100, --mail-type=FAIL]'"
        )
    if option.startswith("--"):  # which sbatch lets one abbreviate
        decided = next((ours for ours in _OURS if name and ours.startswith(name)), None)
    else:
        decided = _OURS_SHORT.get(name[:1])
    if decided is not None:
        raise ValueError(f"sbatch={option!r} is not allowed: --{decided} is decided by the launcher")

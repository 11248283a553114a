"""The options of ``--launch``: told apart from those of the command, checked, and turned into options of sbatch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

OPTIONS = {
    "launch": ("slurm", "Submit the command to SLURM in place of running it here."),
    "array": ("N", "score: cut the work into N tasks, joined by a job after them; N%M lets M of them run at once. fit: train "
              "the best N networks of --model.arch found.json."),
    "time": ("TIME", "Time limit of a task, such as 90m, 2h, 1d12h or 1-00:00:00. A task that reaches it stops in order, goes "
             "back into the queue and continues."),
    "partition": ("NAME", "Partition."),
    "account": ("NAME", "Account."),
    "qos": ("NAME", "Quality of service."),
    "gpus": ("N", "GPUs of a task (of each node, with --nodes), such as 1 or a100:4."),
    "cpus": ("N", "CPU cores of a task."),
    "mem": ("SIZE", "Memory of each node, such as 16G."),
    "nodes": ("N", "search, fit: machines."),
    "job_name": ("NAME", "Name in the queue. Default: vkdnw-COMMAND."),
    "dependency": ("WHEN", "Begin after other jobs, such as afterok:123."),
    "sbatch": ("LIST", "More options of sbatch, such as '[--constraint=a100]'."),
    "dry_run": ("", "Print what would be submitted, and write and submit nothing."),
    "wait": ("", "Follow the jobs until all have ended."),
}  # fmt: skip
"""Option -> how its value is written (nothing: it is a switch), and its help."""

_SWITCHES = tuple(name for name, (value, _) in OPTIONS.items() if not value)
_OURS = ("array", "output", "error", "open-mode", "no-requeue", "parsable", "wrap", "wait", "test-only", "dependency", "chdir",
         "clusters")  # fmt: skip
_OURS_SHORT = {"a": "array", "o": "output", "e": "error", "W": "wait", "d": "dependency", "D": "chdir", "M": "clusters"}
_SIGNAL_S = 120
"""How long before its time limit a task is told, by the head of the scripts."""
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class LaunchOptions:
    """The options of ``--launch``, checked."""

    array: int | None = None
    at_once: int | None = None
    """How many tasks of the array may run at the same time."""
    time_s: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: str | None = None
    cpus: int | None = None
    mem: str | None = None
    nodes: int | None = None
    job_name: str | None = None
    dependency: str | None = None
    sbatch: tuple[str, ...] = ()
    dry_run: bool = False
    wait: bool = False

    @property
    def gpu_count(self) -> int | None:
        """GPUs of each node."""
        return None if self.gpus is None else int(self.gpus.rpartition(":")[2])

    def resources(self) -> list[str]:
        """Options of sbatch for what a task needs and where it runs."""
        values = {
            "time": None if self.time_s is None else slurm_time(self.time_s),
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "gpus-per-node": self.gpus,
            "cpus-per-task": self.cpus,
            "mem": self.mem,
            "nodes": self.nodes,
        }
        return [*(f"--{name}={value}" for name, value in values.items() if value is not None), *self.sbatch]

    def place(self) -> list[str]:
        """Options of sbatch for where a small job runs, such as the one that joins tables."""
        values = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return [f"--{name}={value}" for name, value in values.items() if value is not None]


def split_options(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Tell the options of ``--launch`` from those of the command.

    ``--dry-run`` means ``--dry_run``.

    Returns:
        Name -> value of the former, and the latter as they were.

    Raises:
        ValueError: if a value is missing.
    """
    given: dict[str, str] = {}
    rest: list[str] = []
    place = 0
    while place < len(arguments):
        argument = arguments[place]
        place += 1
        name, equals, value = argument.partition("=")
        name = launch_option(name) or ""
        if not name:
            rest.append(argument)
            continue
        if not equals and name in _SWITCHES:
            value = "true"
            if arguments[place : place + 1] in (["true"], ["false"]):
                value, place = arguments[place], place + 1
        elif not equals:
            if place == len(arguments) or arguments[place].startswith("--"):
                raise ValueError(f"--{name} needs a value: {OPTIONS[name][0]}")
            value, place = arguments[place], place + 1
        given[name] = value
    return given, rest


def launch_option(argument: str) -> str | None:
    """Name of the option of ``--launch`` that an argument is, if it is one."""
    if not argument.startswith("--"):
        return None
    name = argument[2:].partition("=")[0].replace("-", "_")
    return name if name in OPTIONS else None


def read_options(given: Mapping[str, str]) -> LaunchOptions:
    """Check the options.

    Raises:
        ValueError: for the first value that is not allowed, with what is.
    """
    if given.get("launch") != "slurm":
        raise ValueError(f"launch={given.get('launch')!r} is not allowed: it takes slurm")
    array, _, at_once = given.get("array", "").partition("%")
    if "array" in given and not (_whole(array) and (not at_once or _whole(at_once)) and given["array"][-1] != "%"):
        raise ValueError(
            f"array={given['array']!r} is not allowed: give how many tasks, such as 64, or 64%8 for 8 of them at once"
        )
    gpus = given.get("gpus")
    if gpus is not None and not re.fullmatch(r"([\w.-]+:)?[1-9]\d*", gpus):
        raise ValueError(f"gpus={gpus!r} is not allowed: give how many, such as 1, or with their type, such as a100:4")
    mem = given.get("mem")
    if mem is not None and not re.fullmatch(r"[1-9]\d*[KMGT]B?", mem, re.IGNORECASE):
        raise ValueError(f"mem={mem!r} is not allowed: give a whole number with K, M, G or T, such as 16G")
    when = given.get("dependency")
    if when is not None and not re.fullmatch(r"singleton|after\w*:[\d_+:]+([,?]after\w*:[\d_+:]+)*", when):
        raise ValueError(
            f"dependency={when!r} is not allowed: give a condition and numbers of jobs, such as afterok:123 or "
            "afterany:123:124"
        )
    more = _more(given["sbatch"]) if "sbatch" in given else ()
    time_s = read_time(given["time"]) if "time" in given else None
    if time_s is not None and time_s <= _SIGNAL_S and not any(one.startswith("--signal=") for one in more):
        raise ValueError(
            f"time={given['time']!r} is not allowed: a task stops {_SIGNAL_S} s before its time limit, so give it more, "
            "or tell it later with --sbatch '[--signal=USR1@30]'"
        )
    return LaunchOptions(
        array=int(array) if array else None,
        at_once=int(at_once) if at_once else None,
        time_s=time_s,
        partition=_word("partition", given),
        account=_word("account", given),
        qos=_word("qos", given),
        job_name=_word("job_name", given),
        gpus=gpus,
        cpus=_count("cpus", given),
        mem=None if mem is None else mem.upper().removesuffix("B"),
        nodes=_count("nodes", given),
        dependency=when,
        sbatch=more,
        dry_run=_switch("dry_run", given),
        wait=_switch("wait", given),
    )


def read_time(text: str) -> int:
    """Turn a time limit into seconds.

    Args:
        text: units (``90m``, ``1d12h``) or SLURM's ``days-hours:minutes:seconds`` or ``hours:minutes:seconds``.

    Raises:
        ValueError: if it is written differently or is nothing.
    """
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
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours // 24}-{hours % 24:02}:{minutes:02}:{rest:02}"


def launch_help(prog: str) -> str:
    """Text for ``--launch --help``."""
    lines = [
        f"usage: {prog} OPTIONS OF THE COMMAND... --launch slurm [LAUNCH OPTIONS]",
        "",
        "Submit the command to SLURM. The same line again submits what failed or is missing, and only that.",
        "",
    ]
    for name, (value, text) in OPTIONS.items():
        lines.append(f"  --{name} {value}".rstrip())
        words, line = text.split(), " " * 14
        for word in words:
            if len(line) + len(word) > 108:
                lines.append(line)
                line = " " * 14
            line += f" {word}"
        lines.append(line)
    lines += [
        "",
        "Values of the cluster (partition, account, modules, environment, ...) can stand in slurm/site.env.",
        f"what became of the jobs:  {prog.rpartition(' ')[0]} status OUT [--wait] [--resubmit]",
        f"options of the command:   {prog} --help",
    ]
    return "\n".join(lines)


def nearest_option(argument: str) -> str | None:
    """The option of ``--launch`` that a mistyped argument may mean."""
    name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
    near = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.75)
    return near[0] if near else None


def _whole(text: str) -> bool:
    return re.fullmatch(r"[1-9]\d*", text) is not None


def _count(name: str, given: Mapping[str, str]) -> int | None:
    if name not in given:
        return None
    if not _whole(given[name]):
        raise ValueError(f"{name}={given[name]!r} is not allowed: give a whole number of at least 1")
    return int(given[name])


def _word(name: str, given: Mapping[str, str]) -> str | None:
    text = given.get(name)
    if text is not None and (not text or re.search(r"\s", text)):
        raise ValueError(f"{name}={text!r} is not allowed: give a name without spaces")
    return text


def _switch(name: str, given: Mapping[str, str]) -> bool:
    text = given.get(name, "false")
    if text not in ("true", "false"):
        raise ValueError(f"{name}={text!r} is not allowed: it takes true or false")
    return text == "true"


def _more(text: str) -> tuple[str, ...]:
    how = "give a list of options, such as '[--constraint=a100, --mail-type=FAIL]'"
    try:
        options = yaml.safe_load(text)
    except yaml.YAMLError:
        options = None
    options = [options] if isinstance(options, str) else options
    if not isinstance(options, list) or not all(isinstance(one, str) and one.startswith("-") for one in options):
        raise ValueError(f"sbatch={text!r} is not allowed: {how}")
    for one in options:
        name = one.lstrip("-").partition("=")[0]
        if one.startswith("--"):  # which sbatch lets one abbreviate
            name = next((ours for ours in _OURS if name and ours.startswith(name)), name)
        else:
            name = _OURS_SHORT.get(name[:1], name)
        if name in _OURS:
            raise ValueError(f"sbatch={text!r} is not allowed: --{name} is decided by the launcher")
    return tuple(options)

"""The measuring steps of `run.sh`: scores on two devices compared, networks per second, and the tables at the end.

    python benchmarks/gpu/measure.py agreement --device cuda --out OUT
    python benchmarks/gpu/measure.py speed --device cuda --out OUT
    python benchmarks/gpu/measure.py workers --device cuda --out OUT
    python benchmarks/gpu/measure.py train --device cuda --out OUT
    python benchmarks/gpu/measure.py summary --out OUT

Every number is a line of OUT/measured.jsonl as soon as it is there; `summary` makes summary.json and summary.md of them.
With ``--tiny`` everything is small, to see on a CPU that it runs; the numbers then mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import scipy.stats
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "vkdnw_speed"))
from run import vmap_jacrev  # noqa: E402

from vkdnw_pl.commands.score import score  # noqa: E402
from vkdnw_pl.data.batches import batches  # noqa: E402
from vkdnw_pl.networks.init import initialise  # noqa: E402
from vkdnw_pl.proxies import PROXIES, make_proxies  # noqa: E402
from vkdnw_pl.proxies.functional.fisher import (  # noqa: E402
    eigenvalues_of_root,
    entropy,
    fisher_root,
    quantiles,
    smoothed_probabilities,
)
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights  # noqa: E402
from vkdnw_pl.proxies.scoring import Images, score_network  # noqa: E402
from vkdnw_pl.runs.files import write_csv  # noqa: E402
from vkdnw_pl.runs.table import read_table  # noqa: E402
from vkdnw_pl.scoring.plan import ScoreOptions  # noqa: E402
from vkdnw_pl.scoring.scorer import Scorer  # noqa: E402
from vkdnw_pl.scoring.settings import ScorerSettings  # noqa: E402
from vkdnw_pl.scoring.workers import Workers  # noqa: E402
from vkdnw_pl.spaces import SPACES  # noqa: E402

AGG = ("aleph", "jacov", "expressivity", "trainability", "macs")
"""With vkdnw, the proxies of vkdnw_agg."""
LARGE_MB = 8192
"""Bound of VKDNW's memory where there is a large GPU; the default of 256 MiB was chosen for CPU caches."""
TOLERANCE = 1e-3
"""Largest relative difference between devices that is expected of a score in float32."""
ROUGH = {
    "plain": 1.0,
    "grasp": 0.1,
    "ntk_condition": 0.1,
    "zico": 0.05,
    "grad_sign": 0.01,
    "epe_nas": 0.01,
    "vkdnw_official": 0.01,
}
"""Of these, more: see README.md."""


def note(out: Path, **measured: Any) -> None:
    with (out / "measured.jsonl").open("a") as file:
        file.write(json.dumps(measured) + "\n")
    print(measured, flush=True)


def synchronised(device: str) -> float:
    """The time when the device has done all that it was told to do."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def median_seconds(work: Callable[[], Any], device: str, repeats: int) -> tuple[float, Any]:
    """After one call that warms up: libraries choose and load their kernels for every new shape."""
    value = work()
    seconds = []
    for _ in range(repeats):
        began_at = synchronised(device)
        value = work()
        seconds.append(synchronised(device) - began_at)
    return statistics.median(seconds), value


def environment(out: Path, device: str, tiny: bool) -> None:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if device != "cpu" else []
    facts = {"device": device, "gpus": names, "cuda": torch.version.cuda, "torch": torch.__version__, "tiny": tiny}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    facts |= {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0)), "commit": commit or None}
    note(out, what="environment", **facts)


# Scores on two devices.


def agreement(out: Path, device: str, tiny: bool) -> None:
    """Every proxy on random unique NAS-Bench-201 networks, on CPU and on the device.

    Where the device is the CPU too, the second run takes PyTorch's own convolutions in place of oneDNN's, so that
    there is a difference to look at: that of two libraries that round in another order.
    """
    network = {"channels": 4, "cells": 1} if tiny else {}
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        tables = []
        for name, where, workers in (
            ("cpu", "cpu", max(1, cores - 2)),
            ("device", device, 1 if device == "cpu" else 4),
        ):
            torch.backends.mkldnn.enabled = name == "cpu" or device != "cpu"  # which forked workers inherit
            options = ScoreOptions(
                archs=f"sample:{6 if tiny else 50}",
                proxies=list(PROXIES),
                network=network,
                batch_size=16,
                oracle=None,
                device=where,
                workers=workers,
                out=f"{folder}/{name}",
                progress=False,
            )
            began_at = time.perf_counter()
            score(options)
            note(out, what="scored", device=where, workers=workers, seconds=round(time.perf_counter() - began_at, 1))
            tables.append(read_table(Path(folder) / name / "scores.csv"))
        torch.backends.mkldnn.enabled = True
    rows = list(zip(tables[0].rows, tables[1].rows, strict=True))
    columns = [column for column in tables[0].columns if "_decile_" not in column]
    write_csv(
        out / "agreement.csv",
        ["arch", *(f"{column}_{where}" for column in columns for where in ("cpu", "device"))],
        [[a.arch, *(row.values[column] for column in columns for row in (a, b))] for a, b in rows],
    )
    for column in columns:
        pairs = [(a.values[column], b.values[column]) for a, b in rows]
        both = [(x, y) for x, y in pairs if x is not None and y is not None]
        differences = [abs(x - y) / max(abs(x), abs(y)) if x != y else 0.0 for x, y in both]
        expected = ROUGH.get(column, TOLERANCE)
        note(
            out,
            what="agreement",
            proxy=column,
            networks=len(pairs),
            largest=max(differences, default=None),
            median=statistics.median(differences) if differences else None,
            kendall=float(scipy.stats.kendalltau(*zip(*both, strict=True)).statistic) if len(both) > 1 else None,
            only_one=sum((x is None) != (y is None) for x, y in pairs),
            expected=expected,
            ok=all(d <= expected for d in differences) and all((x is None) == (y is None) for x, y in pairs),
        )


# Networks per second.


def settings(tiny: bool) -> dict[str, dict[str, Any]]:
    """Name -> space, architectures, options of the network, batch, and samples that the baseline is measured on."""
    nb201 = random.Random(0).sample(list(SPACES["nb201"].enumerate(unique=True)), 1 if tiny else 3)
    cell = {"channels": 4, "cells": 1} if tiny else {}
    size, batch = (32, 4) if tiny else (224, 64)
    mbv2 = {
        "space": "mbv2",
        "archs": ["mbv2_480m"],
        "network": {"image_size": size, "num_classes": 20 if tiny else 1000},
    }
    c10 = {"num_classes": 10, "image_size": 32, **cell}
    c120 = {"num_classes": 20 if tiny else 120, "image_size": 16, **cell}
    return {
        "nb201, C = 10, 32 px": {"space": "nb201", "archs": nb201, "network": c10, "batch": batch, "few": batch},
        "nb201, C = 120, 16 px": {"space": "nb201", "archs": nb201, "network": c120, "batch": batch, "few": batch // 2},
        "mbv2, C = 1000, 224 px": {**mbv2, "batch": batch, "few": 2},
    }


def speed(out: Path, device: str, tiny: bool) -> None:
    """The same networks by every method. What was measured on few samples is scaled to the batch, and says so.

    The baseline and VKDNW in small parts are sums over parts of the batch, so that time is linear in the samples.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1)  # as a worker has
    for name, setting in settings(tiny).items():
        space, network, batch, few = (setting[key] for key in ("space", "network", "batch", "few"))
        space = SPACES[space]
        size, classes = space.input_size(**network), space.num_classes(**network)
        methods: dict[str, tuple[Any, int]] = {
            "vkdnw": (["vkdnw"], few if name.startswith("mbv2") else batch),
            f"vkdnw, {LARGE_MB} MiB": ([{"name": "vkdnw", "max_memory_mb": LARGE_MB}], batch),
            f"vkdnw_agg, {LARGE_MB} MiB": ([{"name": "vkdnw", "max_memory_mb": LARGE_MB}, *AGG], batch),
            "vkdnw by vmap(jacrev)": (None, few),
        }
        if classes < 100 or tiny:
            for engine in ("reverse", "forward"):
                spec = {"name": "vkdnw", "max_memory_mb": LARGE_MB, "engine": engine}
                methods[f"vkdnw, {LARGE_MB} MiB, {engine}"] = ([spec], batch)
        for arch in setting["archs"]:
            torch.manual_seed(0)
            built = space.build(arch, **network).to(device)
            for method, (specs, samples) in methods.items():
                images = Images(*(batches(source, samples, size, 1, classes) for source in ("random", "digits")))
                if specs is None:
                    work = partial(baseline, built, images.images(0).images.to(device))
                else:
                    work = partial(column_of, built, images, make_proxies(specs))
                repeats = 1 if name.startswith("mbv2") or specs is None else 3
                try:
                    seconds, value = median_seconds(work, device, repeats)
                except torch.OutOfMemoryError:
                    seconds, value = None, None
                if device != "cpu":
                    torch.cuda.empty_cache()
                note(
                    out,
                    what="speed",
                    setting=name,
                    method=method,
                    arch=arch[:40],
                    batch=batch,
                    measured_on=samples,
                    seconds=None if seconds is None else seconds * batch / samples,
                    vkdnw=value,
                )


def column_of(network: torch.nn.Module, images: Images, proxies: Any) -> float | None:
    return score_network(network, images, proxies, seed=1).values["vkdnw"]


def baseline(network: torch.nn.Module, inputs: torch.Tensor) -> float:
    """VKDNW from the Jacobian of `vmap(jacrev)` over the same scalars, one sample at a time where logits are many."""
    initialise(network, seed=1).eval().requires_grad_(False)
    scalars = [Scalar(weight, 0) for weight in layer_weights(network)]
    jac, logits = vmap_jacrev(network, inputs, scalars, "sample", None if inputs.shape[-1] < 64 else 1)
    jac = jac.reshape(*logits.shape, len(scalars))
    return float(entropy(quantiles(eigenvalues_of_root(fisher_root(jac, smoothed_probabilities(logits, 0.05))))))


def workers(out: Path, device: str, tiny: bool) -> None:
    """Networks per second of processes that share the device, between the first rows and the last."""
    count = 12 if tiny else 96
    archs = random.Random(1).sample(list(SPACES["nb201"].enumerate(unique=True)), count)
    proxies = make_proxies([{"name": "vkdnw", "max_memory_mb": LARGE_MB}, *AGG])
    scorer_settings = ScorerSettings(
        space="nb201",
        network={"channels": 4, "cells": 1} if tiny else {},
        proxies=[proxy.record() for proxy in proxies],
        batch_size=64,
        input="random",
        data="digits",
        init="auto",
        device=device,
    )
    for processes in (1, 2) if tiny else (1, 4, 12):
        keys = [(arch, 1) for arch in archs[: max(3 * processes, count if processes > 1 else count // 4)]]
        with Workers(Scorer(scorer_settings), device, processes) as team:
            times = [time.perf_counter() for row in team.rows(keys) if not row.failed]
        warm = times[processes:]
        rate = (len(warm) - 1) / (warm[-1] - warm[0]) if len(warm) > 1 else None
        note(out, what="workers", workers=processes, networks=len(times), networks_per_s=rate)


def train(out: Path, device: str, tiny: bool) -> None:
    """Images per second of the 480-epoch recipe's step, and of its loader."""
    program = [sys.executable, str(HERE.parent / "train_speed" / "measure.py")]
    shared = ["--device", device]
    shared += (
        ["--batch_size", "2", "--steps", "1", "--warmup", "1"] if tiny else ["--batch_size", "256", "--steps", "20"]
    )
    runs = [[*program, "step", *shared, "--teacher", t, "--compile", c] for t, c in
            (("true", "false"), ("false", "false"), ("true", "true"))]  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    runs.insert(
        2,
        [*program, "loader", "--workers", str(0 if tiny else max(1, cores - 4)), "--images", "64" if tiny else "2048"],
    )
    if tiny:
        runs.pop()  # compiling takes minutes on a CPU
    for run in runs:
        try:
            done = subprocess.run(run, capture_output=True, text=True, timeout=90)
        except subprocess.TimeoutExpired:
            note(out, what="train", arguments=run[2:], error="took longer than 90 s")
            continue
        if done.returncode:
            note(out, what="train", arguments=run[2:], error=done.stderr.strip().splitlines()[-1:])
        else:
            line = json.loads(done.stdout.strip().splitlines()[-1])
            note(out, **{**line, "what": "train", "part": line["what"]})


# The tables.


def summary(out: Path, device: str, tiny: bool) -> None:
    lines = [json.loads(line) for line in (out / "measured.jsonl").read_text().splitlines()]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        kinds.setdefault(line.pop("what"), []).append(line)
    (out / "summary.json").write_text(json.dumps(kinds, indent=1) + "\n")
    (out / "summary.md").write_text("\n".join(markdown(kinds)) + "\n")
    print((out / "summary.md").read_text())


def markdown(kinds: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for facts in kinds.get("environment", []):
        yield ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    yield "\n## Steps\n\n| step | exit code | seconds |\n|---|---|---|"
    for step in kinds.get("step", []):
        yield f"| {step['name']} | {step['exit_code']} | {step['seconds']} |"
    yield "\n## CPU and device\n\n| proxy | largest relative difference | median | Kendall | expected | |\n|---|---|---|---|---|---|"
    for row in kinds.get("agreement", []):
        verdict = "" if row["ok"] else f"**more** ({row['only_one']} with a value on one side alone)"
        yield (
            f"| {row['proxy']} | {shown(row['largest'])} | {shown(row['median'])} | {shown(row['kendall'])} | "
            f"{row['expected']:g} | {verdict} |"
        )
    yield "\n## Networks per second, one process\n\n| setting | method | networks/s | s a network |\n|---|---|---|---|"
    grouped: dict[tuple[str, str], list[float | None]] = {}
    for row in kinds.get("speed", []):
        grouped.setdefault((row["setting"], row["method"]), []).append(row["seconds"])
    for (setting, method), seconds in grouped.items():
        if None in seconds:
            yield f"| {setting} | {method} | out of memory | |"
        else:
            median = statistics.median(seconds)  # type: ignore[type-var]
            yield f"| {setting} | {method} | {1 / median:.3g} | {median:.3g} |"
    yield "\n## Processes that share the device\n\n| workers | networks/s |\n|---|---|"
    for row in kinds.get("workers", []):
        yield f"| {row['workers']} | {shown(row['networks_per_s'])} |"
    yield "\n## Training\n\n| part | options | images/s |\n|---|---|---|"
    for row in kinds.get("train", []):
        hidden = ("part", "images_per_s", "error", "device", "torch")
        options = ", ".join(f"{k} {v}" for k, v in row.items() if k not in hidden)
        yield f"| {row.get('part', '')} | {options} | {row.get('images_per_s', row.get('error'))} |"


def shown(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3f}"


STEPS = {step.__name__: step for step in (environment, agreement, speed, workers, train, summary)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    STEPS[arguments.step](arguments.out, arguments.device, arguments.tiny)

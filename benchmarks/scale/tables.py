"""What large score tables cost, without a network: generated rows are written, read, ranked, merged, reported.

    python benchmarks/scale/tables.py --out benchmarks/scale/tables.csv                       # up to a million rows
    python benchmarks/scale/tables.py --out tables.csv --rows 1000 10000                 # a look

Columns are those of the nine default proxies; values are made up (normal, ℵ and MACs with ties). Architectures are
numbered texts as long as those of NAS-Bench-201 (``nb201``, 62 characters) or MobileNetV2 structure strings (``mbv2``).
Every measurement has a process of its own: processor seconds, and the highest resident memory of the process.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.commands.report import ReportOptions, report
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.runs.files import write_json
from vkdnw_pl.runs.table import ScoreRow, ScoreTable, read_table, row_line, write_table
from vkdnw_pl.scoring.archs import resolve_archs
from vkdnw_pl.scoring.bootstrap import bootstrap_intervals
from vkdnw_pl.scoring.evaluation import choose_rankings, evaluate_table
from vkdnw_pl.scoring.folder import ScoreFolder, join_shards
from vkdnw_pl.spaces import SPACES

DECILES = tuple(f"vkdnw_decile_{k}" for k in range(1, 10))
COLUMNS = (
    *(
        "vkdnw",
        *DECILES,
        "aleph",
        "macs",
        "params",
        "jacov",
        "expressivity",
        "progressivity",
        "trainability",
        "synflow",
    ),
)
SHARDS = 100


def table(rows: int) -> ScoreTable:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, len(COLUMNS)))
    for name in ("aleph", "macs", "params"):
        values[:, COLUMNS.index(name)] = rng.integers(5, 60, rows)
    archs = (f"|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|{i:09d}|" for i in range(rows))
    return ScoreTable(
        COLUMNS, [ScoreRow(arch, 1, dict(zip(COLUMNS, v.tolist())), seconds=1.0) for arch, v in zip(archs, values)]
    )


def mbv2_structures(count: int) -> list[str]:
    """Structure strings of the MobileNetV2 space, all different in the width of the last convolution."""
    rng, space = random.Random(0), SPACES["mbv2"]
    few = [re.sub(r",\d+,1,1\)$", "", space.sample(rng)) for _ in range(200)]
    return [f"{few[i % 200]},{i // 200 + 8},1,1)" for i in range(count)]


def prepare(rows: int, folder: Path) -> dict[str, int]:
    """A run, its shards, and a list of architectures; returns how many bytes they have."""
    whole = table(rows)
    for i, count in [(0, 1), *((i, SHARDS) for i in range(SHARDS))]:
        run = ScoreFolder(folder / ("run" if count == 1 else f"shard-{i}"))
        part = ScoreTable(COLUMNS, whole.rows[i::count])
        run.write_archs(part.archs)
        write_table(run.scores, part)
        write_json(
            run.meta,
            {
                **{"command": "score", "status": "finished", "digest": "0", "environment": {}, "runs": []},
                "settings": {
                    **{"space": "nb201", "seeds": [1], "archs": {"count": rows}},
                    "shard": None if count == 1 else f"{i}/{count}",
                },
            },
        )
        run.config.write_text("{}\n")
    structures = folder / "structures.txt"
    structures.write_text("".join(f"{structure}\n" for structure in mbv2_structures(rows)))
    files = {
        "scores.csv": run_file(folder, "scores.csv"),
        "archs.txt": run_file(folder, "archs.txt"),
        "a list of mbv2": structures,
    }
    return {name: path.stat().st_size for name, path in files.items()}


def run_file(folder: Path, name: str) -> Path:
    return folder / "run" / name


def oracle(archs: list[str]) -> Oracle:
    accuracies = dict(zip(archs, np.random.default_rng(1).normal(70, 5, len(archs)).tolist()))
    return Oracle("made up", "made up", {"made_up": "test"}, {"made_up": accuracies})


def writing(rows: int, folder: Path) -> Callable[[], Any]:
    made = table(rows)
    return lambda: write_table(folder / "copy.csv", made)


def journal(rows: int, folder: Path) -> Callable[[], Any]:
    made = table(min(rows, 10_000))
    return lambda: [row_line(row, COLUMNS) for row in made.rows]


def reading(rows: int, folder: Path) -> Callable[[], Any]:
    return lambda: read_table(folder / "run" / "scores.csv")


def ranking(rows: int, folder: Path) -> Callable[[], Any]:
    made = table(rows)
    return lambda: evaluate_table(made, None, choose_rankings(COLUMNS, None))


def measuring(rows: int, folder: Path) -> Callable[[], Any]:
    import vkdnw_pl.metrics.functional  # noqa: F401  (PyTorch, which takes seconds)

    made = table(rows)
    return lambda: evaluate_table(made, oracle(made.archs), choose_rankings(COLUMNS, ["vkdnw_agg"]))


def resampling(rows: int, folder: Path) -> Callable[[], Any]:
    import vkdnw_pl.metrics.functional  # noqa: F401

    made = table(rows)  # as many accuracies as any space has
    return lambda: bootstrap_intervals(made, oracle(made.archs[:15_625]), choose_rankings(COLUMNS, ["vkdnw_agg"]))


def joining(rows: int, folder: Path) -> Callable[[], Any]:
    return lambda: join_shards([ScoreFolder(folder / f"shard-{i}") for i in range(SHARDS)], False)


def reporting(rows: int, folder: Path) -> Callable[[], Any]:
    return lambda: report(ReportOptions(runs=[str(folder / "run")], out=str(folder / "report.html")))


def listing(rows: int, folder: Path) -> Callable[[], Any]:
    return lambda: resolve_archs(str(folder / "structures.txt"), SPACES["mbv2"], lambda _: [])


def sampling(rows: int, folder: Path) -> Callable[[], Any]:
    return lambda: resolve_archs(f"sample:{rows}", SPACES["mbv2"], lambda _: [])


MEASUREMENTS = {
    "write the table": writing,
    "lines of the journal, 10,000 rows": journal,
    "read the table": reading,
    "rank by all rankings": ranking,
    "metrics of vkdnw_agg, all accuracies known": measuring,
    "bootstrap of vkdnw_agg, 15,625 accuracies known": resampling,
    f"join {SHARDS} shards": joining,
    "report": reporting,
    "mbv2 architectures from a file": listing,
    "sample:N of mbv2": sampling,
}


def measure(name: str, rows: int, folder: Path) -> dict[str, Any]:
    work = MEASUREMENTS[name](rows, folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    began_at = time.process_time()
    error = None
    try:
        work()
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    seconds = time.process_time() - began_at
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"seconds": round(seconds, 3), "before_mb": round(before), "peak_mb": round(peak), "error": error}


def in_a_process(limit_s: float, *arguments: Any) -> str:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit_s).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"), help="where the tables are made, and stay")
    parser.add_argument("--only", nargs="+", default=list(MEASUREMENTS))
    parser.add_argument("--limit_s", type=float, default=200.0, help="for each measurement")
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "ROWS", "FOLDER"), help="internal")
    arguments = parser.parse_args()
    if arguments.one:
        name, rows, folder = arguments.one[0], int(arguments.one[1]), Path(arguments.one[2])
        print("\n" + json.dumps(prepare(rows, folder) if name == "prepare" else measure(name, rows, folder)))
        return
    new = not arguments.out.exists()
    with arguments.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, ["rows", "what", "seconds", "before_mb", "peak_mb", "bytes", "error"])
        if new:
            writer.writeheader()
        for line in lines(arguments.rows, arguments.only, arguments.folder, arguments.limit_s):
            print(line, flush=True)
            writer.writerow(line)
            file.flush()


def lines(counts: list[int], only: list[str], folder: Path, limit_s: float) -> Iterator[dict[str, Any]]:
    """What was measured, each as soon as it is."""
    for rows in counts:
        made = folder / str(rows)
        if not made.exists():
            made.mkdir(parents=True)
            sizes = json.loads(in_a_process(600, "--out", "-", "--one", "prepare", rows, made).splitlines()[-1])
            for name, size in sizes.items():
                yield {"rows": rows, "what": f"bytes of {name}", "bytes": size}
        for name in only:
            line = {"rows": rows, "what": name}
            try:
                text = in_a_process(limit_s, "--out", "-", "--one", name, rows, made)
                yield line | json.loads(text.splitlines()[-1])
            except subprocess.TimeoutExpired:
                yield line | {"error": f"longer than {limit_s:g} s"}
            except subprocess.CalledProcessError as error:
                yield line | {"error": f"exit code {error.returncode}: {error.stderr[-200:]}"}


if __name__ == "__main__":
    main()

"""Time and memory of ``report`` over ten runs of 15,625 rows each.

The values are real ones, put on other networks: each run draws rows with replacement from the 3,000 rows (1,000 networks,
3 seeds, 28 columns) of ``benchmarks/nb201_1000/scores.csv.gz``, one for each of the 15,625 networks, and scales every value
by a factor near 1. So files are as large as those of a real run, and rankings correlate with nothing: the numbers of the
page mean nothing, its size and the time that it takes do. Accuracies are the public NAS-Bench-201 tables.

    python benchmarks/report_speed/run.py --oracle_path DIR [--runs 10] [--keep DIR]

Prints seconds (wall and CPU), the peak memory of the process, and the size of the page; exits with 1 over the bounds of
20 s and 5 MB.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.runs.files import write_atomically, write_json
from vkdnw_pl.runs.table import ScoreRow, ScoreTable, read_table
from vkdnw_pl.scoring.evaluation import choose_rankings, evaluate_table, write_metrics, write_ranking
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.spaces import SPACES

HERE = Path(__file__).parent
SOURCE = HERE.parent / "nb201_1000" / "scores.csv.gz"
MAX_SECONDS, MAX_MEGABYTES = 20.0, 5.0

# getrusage's peak would be that of this process, from which the other is forked.
PROGRAM = """
import sys
from vkdnw_pl.cli import main
code = main(["report", *sys.argv[1:]])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def make_run(folder: Path, source: ScoreTable, archs: list[str], oracle_path: str, number: int) -> None:
    """Write one run folder."""
    rng = np.random.default_rng(number)
    picks = rng.integers(0, len(source.rows), len(archs))
    factors = rng.uniform(0.97, 1.03, (len(archs), len(source.columns)))
    rows = []
    for arch, pick, factor in zip(archs, picks.tolist(), factors):
        row = source.rows[pick]
        values = {
            name: None if value is None else value * scale
            for (name, value), scale in zip(row.values.items(), factor.tolist())
        }
        rows.append(ScoreRow(arch, 1, values, row.status, row.reason, row.seconds))
    for i in rng.integers(0, len(rows), 20).tolist():
        rows[i] = replace(rows[i], status="failed", reason="zen: out of memory", values=dict.fromkeys(source.columns))
    table = ScoreTable(source.columns, rows)
    options = {"space": "nb201", "archs": "all", "batch_size": 16 * (number + 1), "seeds": 1, "oracle": "nb201"}
    options |= {"oracle_path": oracle_path, "proxies": list(source.columns)}
    settings = {"space": "nb201", "archs": {"count": len(archs), "sha256": "0" * 64}, "seeds": [1], "shard": None}
    environment = {"versions": {"python": platform.python_version()}, "host": f"node{number}"}
    times = {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": "2026-01-01T01:00:00+00:00", "elapsed_s": 3600.0}
    target = ScoreFolder(folder)
    target.write_archs(archs)
    meta = {"format": 1, "command": "score", "status": "finished", "settings": settings, "environment": environment}
    write_atomically(target.config, yaml.safe_dump(options, sort_keys=False))
    write_json(target.meta, meta | {"runs": [times]})
    target.write_scores(table)
    oracle = load_oracle("nb201", oracle_path)
    evaluation = evaluate_table(table, oracle, choose_rankings(table.columns, None))
    write_ranking(target.ranking, evaluation)
    write_metrics(target.metrics, evaluation.metrics)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oracle_path", required=True, help="folder of the public NAS-Bench-201 tables")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--keep", help="keep the runs and the page in this folder, and use the runs that are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(options.keep or temporary)
        source = read_table(SOURCE)
        archs = list(SPACES["nb201"].enumerate())
        folders = [place / f"run-{i}" for i in range(options.runs)]
        for i, folder in enumerate(folders):
            if not folder.exists():
                make_run(folder, source, archs, options.oracle_path, i)
        page = place / "report.html"
        command = [sys.executable, "-c", PROGRAM, *map(str, folders), "--out", str(page)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak_mb = int(done.stdout.split()[-2]) / 1024
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = page.stat().st_size / 1e6
        packed = len(gzip.compress(page.read_bytes())) / 1e6
        print(f"{options.runs} runs of {len(archs):,} rows and {len(source.columns)} columns")
        print(f"{seconds:.1f} s ({cpu:.1f} s CPU), peak memory {peak_mb:.0f} MB")
        print(f"page {size:.2f} MB ({packed:.2f} MB compressed)")
        with (HERE / "result.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["runs", "rows", "seconds", "cpu_seconds", "peak_mb", "page_mb", "page_gz_mb"])
            numbers = [f"{seconds:.1f}", f"{cpu:.1f}", f"{peak_mb:.0f}", f"{size:.2f}", f"{packed:.2f}"]
            writer.writerow([options.runs, len(archs), *numbers])
        return int(done.returncode != 0 or seconds > MAX_SECONDS or size > MAX_MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())

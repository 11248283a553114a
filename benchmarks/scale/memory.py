"""Memory of a running command and its workers: resident set of every process of a tree, every 30 s, into a CSV file.

    python -m vkdnw_pl score --config configs/nb201.yaml --archs unique --out runs/all &
    python benchmarks/scale/memory.py $! rss.csv --run runs/all

Ends with the command. Columns: seconds since the start, rows of the run that are on the disk, process, its place in the
tree (0 the command, 1 what it started), resident MiB (VmRSS, pages shared with the parent by fork included), and of
these the MiB that are its own (RssAnon).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path


def status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def tree(root: int) -> Iterator[tuple[int, int, dict[str, str]]]:
    """(process, depth, status) of a process and all that it started."""
    children: dict[int, list[int]] = {}
    known = {int(path.name): status(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    for pid, fields in known.items():
        children.setdefault(int(fields.get("PPid", 0)), []).append(pid)
    pending = [(root, 0)]
    while pending:
        pid, depth = pending.pop(0)
        if "VmRSS" in known.get(pid, {}):
            yield pid, depth, known[pid]
        pending += [(child, depth + 1) for child in children.get(pid, [])]


def rows_of(run: Path | None) -> int | None:
    """Rows on the disk: of the table, and of journals of an unfinished run."""
    if run is None:
        return None
    files = [run / "scores.csv", *sorted((run / "rows").glob("*.csv"))]
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in files if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pid", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", type=Path, help="run folder whose rows are counted")
    parser.add_argument("--every", type=float, default=30.0, help="seconds")
    arguments = parser.parse_args()
    began_at = time.monotonic()
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", "rows", "pid", "depth", "rss_mb", "anonymous_mb"])
        while lines := list(tree(arguments.pid)):
            seconds, rows = round(time.monotonic() - began_at, 1), rows_of(arguments.run)
            for pid, depth, fields in lines:
                mib = [round(int(fields[name].split()[0]) / 1024, 1) for name in ("VmRSS", "RssAnon")]
                writer.writerow([seconds, rows, pid, depth, *mib])
            file.flush()
            time.sleep(arguments.every)


if __name__ == "__main__":
    main()

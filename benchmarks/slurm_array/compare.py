"""Compares two run folders of `score`: every byte of the tables but for the column of seconds."""

import sys
from pathlib import Path


def without_seconds(table: Path) -> list[str]:
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith(",seconds")
    return [line.rpartition(",")[0] for line in lines]


one, other = map(Path, sys.argv[1:])
differ = [
    name
    for name, read in (
        ("scores.csv", without_seconds),
        ("ranking.csv", Path.read_bytes),
        ("metrics.csv", Path.read_bytes),
    )
    if read(one / name) != read(other / name)
]
print(f"{len(without_seconds(one / 'scores.csv')) - 1} rows; differ: {', '.join(differ) or 'nothing'}")
sys.exit(bool(differ))

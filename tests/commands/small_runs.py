"""Runs of `score` that take a second: tiny networks, quick proxies, and an oracle made up for them."""

import csv
import random
from pathlib import Path

from vkdnw_pl.commands import evaluate as evaluate_command
from vkdnw_pl.commands.merge import MergeOptions
from vkdnw_pl.commands.merge import merge as merge_command
from vkdnw_pl.commands.score import score as score_command
from vkdnw_pl.errors import user_input
from vkdnw_pl.scoring.plan import ScoreOptions
from vkdnw_pl.spaces import NB201

NETWORK = {"channels": 4, "cells": 1, "image_size": 8}
PROXIES = ["macs", "aleph", "vkdnw"]


def make_oracle(path: Path) -> str:
    """Accuracies of most of the architectures that these runs score: the more MACs, the better."""
    space = NB201()
    archs = random.Random(0).sample(list(space.enumerate(unique=True)), 60)
    known = [arch for i, arch in enumerate(archs) if i % 5 != 4]
    path.write_text("arch,made_up\n" + "".join(f"{arch},{40 + space.cost(arch).macs / 1e7}\n" for arch in known))
    return str(path)


def score(**options) -> int:
    """The command `score`, as the command line calls it."""
    with user_input():
        chosen = ScoreOptions(**options)
    return score_command(chosen)


def merge(shards: list[Path], out: Path, **options) -> int:
    """The command `merge`."""
    return merge_command(MergeOptions(shards=[str(shard) for shard in shards], out=str(out), **options))


def run(out: Path, **options) -> int:
    """Run `score` with the tiny settings; the oracle lies beside `out`."""
    oracle = out.parent / "oracle.csv"
    if not oracle.exists():
        make_oracle(oracle)
    return score(
        **{
            "network": NETWORK,
            "archs": "sample:12",
            "proxies": PROXIES,
            "batch_size": 4,
            "oracle": str(oracle),
            "device": "cpu",
            "workers": 1,
            "out": str(out),
            "progress": False,
            **options,
        }
    )


def evaluate(scores: str | list[str], **options) -> int:
    """Run `evaluate`."""
    with user_input():
        parsed = evaluate_command.EvaluateOptions(scores=scores, **options)
    return evaluate_command.evaluate(parsed)


def scores_of(folder: Path) -> list[list[str]]:
    """Cells of scores.csv but for the last column, which is the time."""
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][-1] == "seconds"
    return [row[:-1] for row in rows]


def bytes_without_seconds(folder: Path) -> bytes:
    lines = (folder / "scores.csv").read_bytes().splitlines(keepends=True)
    return b"".join(line.rpartition(b",")[0] + b"\n" for line in lines)


def results_of(folder: Path) -> dict[str, bytes]:
    """Every file that a run makes from its scores."""
    names = ["ranking.csv", "metrics.csv", *sorted(str(p.relative_to(folder)) for p in folder.glob("figures/*.png"))]
    return {"scores.csv": bytes_without_seconds(folder), **{name: (folder / name).read_bytes() for name in names}}

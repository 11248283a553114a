"""Agreement of the feature proxies with accuracies under several rules for where features are read:

    python benchmarks/feature_taps/measure.py macro|nb201|timm ACCURACY_FILE SCORES OUT.csv [COUNT]

``macro``: nas-bench-macro_cifar10.json; COUNT architectures of the 3,969 different ones. ``nb201``:
nasbench201_cifar10.json; COUNT unique architectures; SCORES is a score table with vkdnw, aleph, jacov and macs.
``timm``: results-imagenet.csv; the COUNT cheapest of SCORES (benchmarks/timm_zoo/scores.csv.gz).
"""

from __future__ import annotations

import csv
import json
import math
import random
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
from nas_bench_macro import NasBenchMacro
from torch import nn

from vkdnw_pl.data.batches import batches
from vkdnw_pl.networks.features import stage_ends
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.az_nas import block_trainability
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.fisher import feature_entropy
from vkdnw_pl.proxies.scoring import Images, score_network
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.spaces import NB201, TimmZoo

torch.set_num_threads(1)
OTHERS = ("vkdnw", "aleph", "macs", "jacov")


def blocks_of(network: nn.Module, kind: str) -> list[str]:
    """The stem and every block, as a person would name them."""
    if kind == "nb201":
        return list(network.feature_taps)
    if kind == "macro":
        return [str(i) for i in range(9)]
    names = []
    for info in network.feature_info if isinstance(network.feature_info, list) else network.feature_info.info:
        module = network.get_submodule(info["module"])
        prefix = info["module"]
        inner = getattr(module, "blocks", module)
        prefix += ".blocks" if inner is not module else ""
        if isinstance(inner, nn.Sequential | nn.ModuleList) or "blocks" in prefix:
            names += [f"{prefix}.{name}" for name, _ in inner.named_children()]
        else:
            names += [f"{prefix}.{n}" for n, child in module.named_children() if any(child.children())] or [prefix]
    return names


def rules(blocks: list[str], maps: dict[str, torch.Tensor], last: list[str]) -> dict[str, list[str]]:
    """Rule -> names. ``last``: the last map of every resolution of the whole network, whoever made it."""
    sizes = [maps[name].shape[-2:] for name in blocks]
    ends = [n for n, s, after in zip(blocks, sizes, [*sizes[1:], None]) if s != after]
    starts = [n for n, s, before in zip(blocks, sizes, [None, *sizes[:-1]]) if s != before]
    stem = [blocks[0]] if blocks[0] not in ends else []
    moved = [n for n, before in zip(blocks, [None, *blocks]) if before is None or maps[n] is not maps[before]]
    return {
        "stem and every block": blocks,
        "stem and every block that is no identity": moved,
        "last of each resolution": ends,
        "stem and last of each resolution": stem + ends,
        "stage ends without a stem": ends[1:] if ends[0] == blocks[0] else ends,
        "first of each resolution": starts,
        "last map of each resolution, head included": last,
    }


def measure(network: nn.Module, size: tuple[int, int, int], batch: int, kind: str, seed: int = 1) -> dict[str, float]:
    """Rule and proxy -> value, NaN where there is none."""
    values = {}
    with borrow(network, batches("random", batch, size, seed), seed, "kaiming_normal") as lent:
        blocks = blocks_of(lent.network, kind)
        seen: list[tuple[str, torch.Tensor]] = []
        handles = [
            module.register_forward_hook(lambda _m, _a, out, name=name: seen.append((name, out)))
            for name, module in lent.network.named_modules()
        ]
        graph = lent.fresh_graph("batch")
        for handle in handles:
            handle.remove()
        maps = {n: t for n, t in seen if isinstance(t, torch.Tensor) and t.dim() == 4}
        by_size: dict[tuple[int, ...], str] = {}
        for name, out in seen:
            if name in maps and out is maps[name] and out.shape[-1] > 1:
                by_size.pop(tuple(out.shape[-2:]), None)
                by_size[tuple(out.shape[-2:])] = name
        blocks = [name for name in blocks if name in maps]
        entropies: dict[str, float] = {}
        chosen = rules(blocks, maps, list(by_size.values()))
        chosen["`taps: stages`"] = list(stage_ends(lent.network, lent.inputs))
        for rule, names in chosen.items():
            try:
                for name in names:
                    if name not in entropies:
                        entropies[name] = feature_entropy(maps[name])
                es = [entropies[name] for name in names]
                values[f"{rule}/expressivity"] = math.fsum(es)
                values[f"{rule}/progressivity"] = min(b - a for a, b in pairwise(es)) if len(es) > 1 else math.nan
            except UndefinedScore:
                pass
            try:
                generator = lent.generator("trainability")
                each = []
                for before, after in reversed(list(pairwise(maps[n] for n in names))):
                    if before is after:
                        raise UndefinedScore("identity")
                    signs = torch.randint(0, 2, after.shape, generator=generator).to(after) * 2 - 1
                    each.append(block_trainability(before, after, signs))
                values[f"{rule}/trainability"] = sum(each) / len(each) if each else math.nan
            except (UndefinedScore, ValueError):
                pass
        del graph
    return values


def main() -> None:
    kind, accuracy_file, scores, out = sys.argv[1:5]
    count = int(sys.argv[5]) if len(sys.argv) > 5 else 10**9
    began = time.process_time()
    known: dict[str, dict[str, float]] = {}
    if kind == "macro":
        space = NasBenchMacro()
        table = json.loads(Path(accuracy_file).read_text())
        archs = random.Random(0).sample(list(space.enumerate(unique=True)), count)
        accuracy = {arch: table[arch]["mean_acc"] for arch in archs}
        for arch in archs[:20]:
            cost = space.cost(arch)
            assert (cost.num_params, cost.macs - 10) == (table[arch]["params"], table[arch]["flops"]), arch
        batch, options = 16, {}
    elif kind == "nb201":
        space = NB201()
        table = json.loads(Path(accuracy_file).read_text())
        archs = random.Random(0).sample(list(space.enumerate(unique=True)), count)
        accuracy = {arch: table[arch]["test_acc_200"] for arch in archs}
        batch, options = 16, {}
    else:
        space = TimmZoo()
        accuracy = load_oracle("timm", accuracy_file, "timm_zoo").accuracies("imagenet")
        rows = [row for row in read_table(Path(scores)).rows if row.arch in accuracy]
        archs = [row.arch for row in sorted(rows, key=lambda row: row.seconds)][:count]
        batch, options = 8, {"image_size": 64}
    if kind != "macro":
        known = {row.arch: row.values for row in read_table(Path(scores)).rows}
    results = []
    for arch in archs:
        torch.manual_seed(1)
        network = space.build(arch, **options)
        size = space.input_size(**options)
        try:
            values = measure(network, size, batch, kind)
        except Exception as error:
            print(arch, type(error).__name__, error, file=sys.stderr)
            continue
        if kind == "macro":
            images = Images(batches("random", batch, size, 1, 10), batches("digits", batch, size, 1, 10))
            values |= score_network(network, images, make_proxies(OTHERS), 1).values
        else:
            values |= {name: known[arch].get(name) for name in OTHERS}
        results.append({"arch": arch, "accuracy": accuracy[arch], "layers": space.layers(arch), **values})
    columns = list(dict.fromkeys(name for row in results for name in row if "_decile_" not in name))
    with Path(out).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(results)
    print(f"{len(results)} networks, {time.process_time() - began:.0f} s of processor time", file=sys.stderr)


if __name__ == "__main__":
    main()

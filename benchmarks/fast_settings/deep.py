"""Few images against sketches of 1,000 classes on deep networks: 20 of the MobileNetV2 space at 48 x 48 pixels.

    python benchmarks/fast_settings/deep.py deep.csv

VKDNW of the exact Jacobian of 16 images is what all are compared with (Spearman, over networks).
"""

import csv
import random
import statistics
import sys
import time

import torch
from score import ALPHA, score

from vkdnw_pl.data.batches import batches
from vkdnw_pl.metrics.functional import spearman_rho
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.fisher import fisher_root, sketch_cotangents, smoothed_probabilities
from vkdnw_pl.proxies.functional.jacobian import jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights
from vkdnw_pl.spaces import SPACES

NETWORK = {"image_size": 48, "num_classes": 1000}
CHEAPER = [(size, None) for size in (16, 8, 4, 2)] + [(16, k) for k in (1, 2, 4, 8, 16)]


def main(out: str, networks: int = 20, timed: int = 3) -> None:
    torch.set_num_threads(1)
    space, rng = SPACES["mbv2"], random.Random(0)
    images = batches("random", 16, (3, 48, 48), 1)
    rows = []
    for number in range(networks):
        torch.manual_seed(1)
        arch = space.sample(rng)
        network = space.build(arch, **NETWORK)
        row: dict[str, object] = {"arch": arch}
        with borrow(network, images, 1, fresh=True) as lent:
            scalars = [Scalar(name, 0) for name in layer_weights(lent.network)]
            row["scalars"] = len(scalars)
            result = jacobian(lent.network, lent.inputs, scalars, "sample", up_to_shift=True)
            for size, count in CHEAPER:
                jac, p = result.jac_BCP[:size], smoothed_probabilities(result.logits_BC[:size], ALPHA)
                root = fisher_root(jac, p)
                if count:
                    shape = (size, p.shape[1], count)
                    draws = torch.randn(shape, generator=lent.generator("vkdnw sketch"), dtype=torch.float64)
                    root = (sketch_cotangents(p, draws) @ jac.double()).flatten(0, 1) / size**0.5
                row[f"{size} images, {count or 'all'}"] = score(root)
        if number < timed:
            for size, count in CHEAPER:
                (proxy,) = make_proxies([{"name": "vkdnw", "samples": size, "sketch": count}])
                with borrow(network, images, 1, samples=size, fresh=True) as lent:
                    started_at = time.process_time()
                    proxy.compute(lent)
                    row[f"seconds {size} images, {count or 'all'}"] = round(time.process_time() - started_at, 3)
        rows.append(row)
        with open(out, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    for size, count in CHEAPER:
        name = f"{size} images, {count or 'all'}"
        agreement = float(spearman_rho([float(r[name] or "-inf") for r in rows], [r["16 images, all"] for r in rows]))
        seconds = [float(r[f"seconds {name}"]) for r in rows if f"seconds {name}" in r]
        print(f"{name}: {agreement:.3f}", f"{statistics.median(seconds):.2f} s" if seconds else "", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

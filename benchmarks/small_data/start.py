"""How networks begin: gradient norm, and how much a small step of the weights changes what goes into the classifier.

python benchmarks/small_data/start.py PICTURES    # the folder that pictures.py made; half a minute on one core
"""

import csv
import sys
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vkdnw_pl.data.image_folder import ImageFolder
from vkdnw_pl.networks.init import initialise, start_linear, zero_residual_gammas
from vkdnw_pl.spaces import SPACES

BATCH = 64
STEP = 0.01
"""Length of a random step of each weight tensor of the convolutions, as a share of its norm."""


def main(pictures: str) -> None:
    images, labels = ImageFolder(pictures, image_size=64).proxy_batch(BATCH).images, torch.arange(BATCH) % 8
    with Path(__file__).with_name("archs.csv").open(encoding="utf-8", newline="") as file:
        archs = {row["name"]: row["arch"] for row in csv.DictReader(file)}
    print("network, start, gradient norm, correlation")
    for name, arch in archs.items():
        for start in (None, zero_residual_gammas, start_linear):
            network = initialise(SPACES["mbv2"].build(arch, num_classes=8, image_size=64), "pytorch", seed=0)
            if start is not None:
                start(network)
            report(name, "as built" if start is None else start.__name__, network, images, labels)
    network = initialise(timm.create_model("mobilenetv2_075", num_classes=8), "pytorch", seed=0)
    report("mobilenetv2_075", "as built", network, images, labels)


def report(name: str, start: str, network: nn.Module, images: Tensor, labels: Tensor) -> None:
    features: list[Tensor] = []
    network.get_submodule("classifier").register_forward_pre_hook(
        lambda module, args: features.append(args[0].detach())
    )
    F.cross_entropy(network(images), labels).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (p for p in network.parameters() if p.dim() == 4):
            step = torch.randn(weight.shape, generator=generator)
            weight.add_(step, alpha=STEP * float(weight.norm() / step.norm()))
        network(images)
    before, after = (values - values.mean(0) for values in features)
    correlation = (before * after).sum() / (before.norm() * after.norm())
    print(f"{name}, {start}, {norm:.4g}, {correlation:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

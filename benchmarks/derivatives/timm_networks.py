"""Hold every engine against plain autograd on networks of different families of timm: ``python timm_networks.py OUT.csv``.

Double precision, two images of the smallest allowed size, three classes, eight weights spread over the network. The
reference is ``torch.autograd.grad`` of every logit of every image.
"""

import csv
import sys
import time
import warnings
from pathlib import Path

import timm
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "proxies"))
from proxy_reference import all_scalars, images, lend, reference_jacobian, relative_error

from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies.functional.batchnorm import BatchNormMode
from vkdnw_pl.proxies.functional.jacobian import jacobian

ARCHS = """
test_byobnet test_convnext test_efficientnet test_mambaout test_maxvit test_nfnet test_resnet test_vit test_vit_relpos
lcnet_050 mobilenetv2_050 mobilenetv3_small_050 starnet_s050 repghostnet_050 fasternet_t0 efficientvit_b0 efficientvit_m0
edgenext_xx_small levit_128s pvt_v2_b0 shvit_s1 xcit_nano_12_p8_224 mobilevit_xxs cpubone_nano lcnetv2_small resnetv2_18
skresnet18 ese_vovnet19b_slim deit_tiny_patch16_224 convit_tiny pit_xs_224 visformer_tiny rexnet_100 hardcorenas_a
ghostnet_050 inception_next_atto efficientvim_m1 eva02_tiny_patch14_224 swin_tiny_patch4_window7_224 hiera_tiny_224
swinv2_tiny_window8_256 cait_xxs24_224 coat_tiny convmixer_768_32 crossvit_tiny_240 csatv2 cs3darknet_s cspnext_tiny
davit_tiny dla60_res2net dpn68 efficientformerv2_s0 fastvit_s12 gmlp_s16_224 nest_tiny repvit_m1 selecsls42 sequencer2d_s
swiftformer_xs tiny_vit_5m_224 tnt_s_patch16_224 vit_tiny_r_s16_p8_224 volo_d1_224 mvitv2_tiny
""".split()  # noqa: SIM905
SIZES = (32, 48, 64, 96, 112, 128, 160, 192, 224, 240, 256)
ENGINES = ("forward", "reverse", "generic")


def build(arch):
    """The network with the smallest image that it takes."""
    for size in SIZES:
        for options in ({"img_size": size}, {}):
            try:
                torch.manual_seed(0)
                network = timm.create_model(arch, num_classes=3, **options).eval()
                with torch.no_grad():
                    shape = network(torch.zeros(2, 3, size, size)).shape
            except (RuntimeError, AssertionError, TypeError, ValueError, IndexError):
                continue
            if shape == (2, 3):
                return initialise(network, "kaiming_normal", 1).double(), size
    raise RuntimeError(f"{arch} takes no image of {SIZES}")


def compare(arch):
    """A row: what every engine was served by, and its largest difference over the largest entry."""
    network, size = build(arch)
    inputs, scalars = images(2, 3, size, size), all_scalars(network)
    scalars = scalars[:: -(-len(scalars) // 8)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with BatchNormMode("running", composite=True):  # scaled weights call batch norm too
            expected, _ = reference_jacobian(network, inputs, scalars, "running")
        row = {"arch": arch, "image": size, "scalars": len(scalars), "largest": f"{float(expected.abs().max()):.2e}"}
        why = ""
        for engine in ENGINES:
            result = jacobian(lend(network, torch.float64), inputs, scalars, "running", engine)
            row[engine] = f"{relative_error(result.jac_BCP, expected):.0e}"
            row[f"{engine} by"] = result.engine
            why = why or result.fallback or ""
    return row | {"why": why}


def main():
    """Write the table, one row after another."""
    torch.set_num_threads(1)
    rows = []
    for arch in sys.argv[2:] or ARCHS:
        started_at = time.process_time()
        rows.append(compare(arch))
        print(rows[-1], f"{time.process_time() - started_at:.1f} s", flush=True)
        with open(sys.argv[1], "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    worst = max(float(row[engine]) for row in rows for engine in ENGINES)
    print(f"{len(rows)} networks, largest relative difference {worst:.0e}")


if __name__ == "__main__":
    main()

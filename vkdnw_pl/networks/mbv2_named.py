"""Published architectures of the MobileNetV2 ("IDW") space by name, with their costs at 224 pixels and 1000 classes."""

from __future__ import annotations

from dataclasses import dataclass

from vkdnw_pl.errors import nearest
from vkdnw_pl.networks.mbv2_blocks import Blocks, parse_structure


@dataclass(frozen=True)
class NamedArch:
    """An architecture that has a name."""

    arch: str
    macs: int
    """MACs of convolutions and the linear layer, biases counted, 224×224 pixels, 1000 classes, without SE."""
    num_params: int
    """Learnable scalars of the same network."""
    origin: str


NAMED: dict[str, NamedArch] = {
    "mbv2_initial": NamedArch(
        "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperResIDWE6K3(32,48,2,32,1)"
        "SuperResIDWE6K3(48,96,2,48,1)SuperResIDWE6K3(96,128,2,96,1)SuperConvK1BNRELU(128,2048,1,1)",
        macs=159_562_440,
        num_params=2_824_264,
        origin="where the searches begin: ImageNet_MBV2/scripts/search_*.sh of github.com/cvlab-yonsei/AZ-NAS (5e6683a)",
    ),
    "mbv2_480m": NamedArch(
        "SuperConvK3BNRELU(3,48,2,1)SuperResIDWE1K7(48,40,2,40,1)SuperResIDWE1K3(40,96,2,96,2)"
        "SuperResIDWE4K7(96,96,2,96,5)SuperResIDWE2K7(96,224,2,224,5)SuperConvK1BNRELU(224,2048,1,1)",
        macs=485_342_664,
        num_params=5_770_656,
        origin="first of the 480M, 14-layer run in NB201/tss_choose_best.ipynb, history of github.com/ondratybl/VKDNW "
        "(beb332b); which candidate the paper trained is not recorded",
    ),
    "zico_450m": NamedArch(
        "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE1K7(16,40,2,40,1)SuperResIDWE2K7(40,80,2,64,1)"
        "SuperResIDWE4K7(80,96,2,96,5)SuperResIDWE2K7(96,224,2,224,5)SuperConvK1BNRELU(224,2048,1,1)",
        macs=438_641_352,
        num_params=5_741_264,
        origin="ZiCo/ZiCo_imagenet1k_flops450M_res224.txt of github.com/SLDGroup/ZiCo (b0fec65)",
    ),
    "zico_600m": NamedArch(
        "SuperConvK3BNRELU(3,24,2,1)SuperResIDWE1K7(24,48,2,48,1)SuperResIDWE2K7(48,72,2,72,1)"
        "SuperResIDWE6K5(72,160,2,96,1)SuperResIDWE6K7(160,200,2,112,5)SuperResIDWE6K7(200,168,1,168,4)"
        "SuperConvK1BNRELU(168,2048,1,1)",
        macs=591_285_368,
        num_params=9_703_144,
        origin="ZiCo/ZiCo_imagenet1k_flops600M_res224.txt of github.com/SLDGroup/ZiCo (b0fec65)",
    ),
    "zico_1g": NamedArch(
        "SuperConvK3BNRELU(3,48,2,1)SuperResIDWE1K7(48,48,2,72,1)SuperResIDWE1K7(48,80,2,128,1)"
        "SuperResIDWE2K7(80,160,2,144,3)SuperResIDWE4K7(160,288,2,232,4)SuperResIDWE6K5(288,232,1,208,5)"
        "SuperConvK1BNRELU(232,2048,1,1)",
        macs=987_480_944,
        num_params=15_314_624,
        origin="ZiCo/ZiCo_imagenet1k_flops1G_res224.txt of github.com/SLDGroup/ZiCo (b0fec65)",
    ),
    "params_450m": NamedArch(
        "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE1K3(8,8,2,8,1)SuperResIDWE1K3(8,8,2,8,1)SuperResIDWE1K5(8,64,2,8,1)"
        "SuperResIDWE6K5(64,1024,2,48,1)SuperConvK1BNRELU(1024,2048,1,1)",
        macs=449_080_312,
        num_params=11_022_144,
        origin="found by the number of parameters alone: ZiCo/Params_imagenet1k_flops450M_res224.txt of "
        "github.com/SLDGroup/ZiCo (b0fec65)",
    ),
}
"""Name -> architecture. The searches of AZ-NAS left many candidates in their history and no record of the trained ones."""


def read_arch(text: str) -> Blocks:
    """Return the typed form of a structure string or of one of the names in ``NAMED``.

    Raises:
        ValueError: if it is neither; the text says where and what is allowed.
    """
    if "(" in text:
        return parse_structure(text)
    named = NAMED.get(text.strip())
    if named is None:
        raise ValueError(
            f"mbv2 architecture {text!r} is not known{nearest(text, NAMED)} (known names: {', '.join(NAMED)}; or a structure string "
            "such as SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperConvK1BNRELU(32,64,1,1))"
        )
    return parse_structure(named.arch)

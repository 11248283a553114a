"""Costs of MobileNetV2 ("IDW") architectures in closed form: the true ones, and those that the reference counts."""

from __future__ import annotations

from collections.abc import Sequence

from vkdnw_pl.networks.mbv2_blocks import Block, ResBlock, Residual, inverted_residuals
from vkdnw_pl.spaces.base import Cost


def true_cost(blocks: Sequence[Block], image_size: int, num_classes: int, use_se: bool) -> Cost:
    """MACs of convolutions and linear layers, a bias counting one per output element, and learnable scalars."""
    macs = num_params = 0
    size = image_size
    for block in blocks:
        before, size = size, -(-size // block.stride)
        c_out, further = block.out_channels, block.sub_layers - 1
        if isinstance(block, ResBlock):
            first, others = inverted_residuals(block)
            for times, shape in [(1, first[0]), (1, first[1]), (further, others[0]), (further, others[1])]:
                entry = before if shape is first[0] else size
                macs += times * _residual_macs(shape, entry, size, use_se)
                num_params += times * _residual_params(shape, use_se)
        else:
            weights = block.kernel**2 * c_out * (block.in_channels + further * c_out)
            macs += weights * size**2
            num_params += weights + 2 * c_out * block.sub_layers
    head = blocks[-1].out_channels * num_classes + num_classes
    return Cost(macs=macs + head, num_params=num_params + head)


def _residual_macs(shape: Residual, before: int, after: int, use_se: bool) -> int:
    c_in, hidden, c_out = shape.in_channels, shape.hidden, shape.out_channels
    at_output = hidden * shape.kernel**2 + hidden * c_out + (c_in * c_out + c_out if shape.projects else 0)
    return c_in * hidden * before**2 + at_output * after**2 + (2 * hidden * shape.squeezed if use_se else 0)


def _residual_params(shape: Residual, use_se: bool) -> int:
    c_in, hidden, c_out, squeezed = shape.in_channels, shape.hidden, shape.out_channels, shape.squeezed
    weights = c_in * hidden + hidden * shape.kernel**2 + hidden * c_out
    norms = 2 * (hidden + hidden + c_out)
    projection = c_in * c_out + c_out + 2 * c_out if shape.projects else 0
    excitation = 2 * hidden * squeezed + 2 * (squeezed + hidden) if use_se else 0
    return weights + norms + projection + excitation


def reference_cost(blocks: Sequence[Block], image_size: int, num_classes: int, use_se: bool) -> Cost:
    """What the published search code of AZ-NAS and VKDNW counts as FLOPs and model size, for their budgets.

    Differs from `true_cost`: batch norm costs one MAC per element and has C parameters, sizes are rounded down at a
    stride, a projection shortcut is counted at its *output* size divided by the stride (a quarter of its MACs at stride
    2), its batch norm is left out, the linear layer's bias costs nothing and is one parameter. A fraction of a MAC, which
    channels that are no multiples of 8 can give, is dropped.
    """
    macs, num_params = 0.0, 0
    size = image_size
    for block in blocks:
        for i in range(block.sub_layers):
            stride = block.stride if i == 0 else 1
            if isinstance(block, ResBlock):
                for shape in inverted_residuals(block)[min(i, 1)]:
                    macs += _reference_residual_macs(shape, size, use_se)
                    num_params += _reference_residual_size(shape, use_se)
                    size //= shape.stride
            else:
                weights = (block.in_channels if i == 0 else block.out_channels) * block.out_channels * block.kernel**2
                macs += weights * size**2 // stride**2
                size //= stride
                macs += size**2 * block.out_channels
                num_params += weights + block.out_channels
    head = blocks[-1].out_channels * num_classes
    return Cost(macs=int(macs) + head, num_params=num_params + head + 1)


def _reference_residual_macs(shape: Residual, before: int, use_se: bool) -> float:
    c_in, hidden, c_out, stride = shape.in_channels, shape.hidden, shape.out_channels, shape.stride
    after = before // stride
    macs: float = (c_in * hidden + hidden) * before**2
    macs += hidden * shape.kernel**2 * before**2 // stride**2 + hidden * after**2
    macs += (hidden * c_out + c_out) * after**2
    if use_se:
        macs += 2 * hidden * shape.squeezed + hidden + hidden * after**2
    if shape.projects:
        macs += (c_in * c_out + c_out) * (after / stride) ** 2
    return macs


def _reference_residual_size(shape: Residual, use_se: bool) -> int:
    c_in, hidden, c_out, squeezed = shape.in_channels, shape.hidden, shape.out_channels, shape.squeezed
    weights = c_in * hidden + hidden * shape.kernel**2 + hidden * c_out
    norms = hidden + hidden + c_out
    projection = c_in * c_out + c_out if shape.projects else 0
    excitation = 2 * hidden * squeezed + 2 * (squeezed + hidden) if use_se else 0
    return weights + norms + projection + excitation

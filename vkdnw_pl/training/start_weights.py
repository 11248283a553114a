"""Trained weights that a training starts from, also those of a network with other classes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from vkdnw_pl.training.exported import put_weights, read_checkpoint, read_weights


def load_start_weights(network: nn.Module, path: Path, num_classes: int) -> None:
    """Load a state dict into a network of ``num_classes``; see `read_weights` for what ``path`` may be.

    Where the file is of the same network with another number of classes, the classifier stays as it is, which a note on
    stderr says.

    Raises:
        ValueError: if the file cannot be read without running code from it, or holds weights of another network.
    """
    state, own = read_weights(read_checkpoint(path), path), network.state_dict()
    classifier = other_classes(own, state, num_classes)
    put_weights(network, {**state, **{name: own[name] for name in classifier}}, path)
    if classifier:
        there = len(state[classifier[0]])
        rank_zero_only(print)(
            f"note: weights={str(path)!r} are for {there} classes: the classifier ({', '.join(classifier)}) begins anew for "
            f"the {num_classes} here, all else starts from them",
            file=sys.stderr,
        )


def other_classes(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], num_classes: int) -> list[str]:
    """Names of the tensors that differ in shape, if that is by the number of classes alone; else none.

    They have a row for each class, ``num_classes`` in ``own`` and one other number in all of ``saved``. (Another width
    inside of a network shows in the columns of the layer behind it.)
    """
    differing = [name for name, value in own.items() if name in saved and saved[name].shape != value.shape]
    by_rows = all(
        own[name].dim() == saved[name].dim() > 0
        and own[name].shape[0] == num_classes
        and own[name].shape[1:] == saved[name].shape[1:]
        for name in differing
    )
    return differing if by_rows and len({len(saved[name]) for name in differing}) == 1 else []

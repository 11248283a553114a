"""The items of the prediction loop: (architecture, seed) pairs."""

from __future__ import annotations

from collections.abc import Sequence

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from vkdnw_pl.runs.table import Key


class Tasks(Dataset[Key]):
    """(architecture, seed) pairs in order."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = list(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Key:
        return self.keys[index]


class ArchData(LightningDataModule):
    """Hands one (architecture, seed) pair to each prediction step; Lightning shares them out over processes."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self.tasks = Tasks(keys)

    def predict_dataloader(self) -> DataLoader[Key]:
        return DataLoader(self.tasks, batch_size=1, shuffle=False, collate_fn=_only)


def _only(batch: list[Key]) -> Key:
    (key,) = batch
    return key

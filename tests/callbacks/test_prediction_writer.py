import csv

import pytest
import torch
from callback_training import TWO_PROCESSES, SmallData, SmallModule, trainer
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

from vkdnw_pl.callbacks.prediction_writer import PredictionWriter


def predict(folder, data=None, module=None, **options):
    trainer(folder, [PredictionWriter()], **options).predict(module or SmallModule(), data or SmallData(images=21))
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("options", [{}, TWO_PROCESSES], ids=["one", "two"])
def test_every_image_once_in_order(tmp_path, options):
    rows = predict(tmp_path, **options)
    data, module = SmallData(images=21), SmallModule().eval()
    with torch.no_grad():
        probabilities = module.network(data.images).softmax(1)
    assert [int(row["index"]) for row in rows] == list(range(21))
    assert [int(row["label"]) for row in rows] == data.labels.tolist()
    assert [int(row["predicted"]) for row in rows] == probabilities.argmax(1).tolist()
    found = torch.tensor([float(row["probability"]) for row in rows])
    torch.testing.assert_close(found, probabilities.max(1).values)
    assert [row["correct"] for row in rows] == [str(int(row["label"] == row["predicted"])) for row in rows]
    assert {row["correct"] for row in rows} == {"0", "1"}


def test_padded_shares_and_another_order(tmp_path):
    class Shared(SmallData):
        def predict_dataloader(self):
            images = TensorDataset(self.images, self.labels)
            # Deals in a shuffled order, and gives one image to both processes.
            sampler = DistributedSampler(images, shuffle=True)
            return DataLoader(images, batch_size=4, sampler=sampler)

    rows = predict(tmp_path, Shared(images=21), use_distributed_sampler=False, **TWO_PROCESSES)
    assert [int(row["index"]) for row in rows] == list(range(21))
    assert [int(row["label"]) for row in rows] == SmallData(images=21).labels.tolist()


def test_without_labels(tmp_path):
    class Blind(SmallModule):
        def predict_step(self, batch, batch_idx):
            return {"logits": self.network(batch[0])}

    class Hidden(SmallModule):
        def predict_step(self, batch, batch_idx):
            return {"logits": self.network(batch[0]), "labels": torch.full_like(batch[1], -1)}

    for module in (Blind(), Hidden()):
        rows = predict(tmp_path, module=module)
        assert len(rows) == 21
        assert {(row["label"], row["correct"]) for row in rows} == {("", "")}


class Stream(IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(zip(self.data.images, self.data.labels, strict=True))


def test_data_without_places(tmp_path):
    class Streamed(SmallData):
        def predict_dataloader(self):
            return DataLoader(Stream(self), batch_size=8)

    rows = predict(tmp_path, Streamed(images=21))
    assert [int(row["label"]) for row in rows] == SmallData(images=21).labels.tolist()
    with pytest.raises(Exception, match="does not tell which each has"):
        predict(tmp_path, Streamed(images=21), **TWO_PROCESSES)


def test_wrong_predictions_are_named(tmp_path):
    class Wrong(SmallModule):
        def predict_step(self, batch, batch_idx):
            return self.network(batch[0])

    with pytest.raises(ValueError, match="predict_step returned Tensor; needed: a mapping with 'logits'"):
        predict(tmp_path, module=Wrong())

    class Two(SmallData):
        def predict_dataloader(self):
            return [super().val_dataloader(), super().val_dataloader()]

    class Many(SmallModule):
        def predict_step(self, batch, batch_idx, dataloader_idx):
            return super().predict_step(batch, batch_idx)

    with pytest.raises(ValueError, match="several loaders"):
        predict(tmp_path, Two(), Many())

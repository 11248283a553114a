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


NAMES = ("red fox", 'the "big" one', "a, b", "Łódź")


class Named(SmallData):
    class_names = NAMES

    def file_names(self, part):
        return [f"{part}/no {i}, first.jpg" for i in range(len(self.images))]


@pytest.mark.parametrize(("options", "count"), [({}, 4), ({"top_k": 2}, 2), ({"top_k": 0}, 0)])
def test_names_of_classes_and_files(options, count, tmp_path):
    writer, data = PredictionWriter(**options), Named(images=21)
    trainer(tmp_path, [writer]).predict(SmallModule(), data)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    places = [f"top{i + 1}" for i in range(count)]
    assert [name for name in rows[0] if name.startswith("top") and "_" not in name] == places
    with torch.no_grad():
        probabilities = SmallModule().eval().network(data.images).softmax(1)
    for i, row in enumerate(rows):
        assert row["file"] == f"test/no {i}, first.jpg"
        assert row["label_name"] == NAMES[int(row["label"])]
        assert row["predicted_name"] == NAMES[int(row["predicted"])]
        order = probabilities[i].argsort(descending=True)[:count]
        assert [row[place] for place in places] == [NAMES[j] for j in order]
        shares = torch.tensor([float(row[f"{place}_probability"]) for place in places])
        torch.testing.assert_close(shares, probabilities[i, order])


def test_names_that_do_not_fit_are_refused(tmp_path):
    class Few(Named):
        class_names = NAMES[:2]

    with pytest.raises(ValueError, match="class_names are 2, but there is a number 3"):
        predict(tmp_path, Few(images=21))

    class Other(Named):
        def file_names(self, part):
            return ["1.jpg"]

    with pytest.raises(ValueError, match="file_names are 1, but there is a number 20"):
        predict(tmp_path, Other(images=21))


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
        assert not {"label", "label_name", "correct", "file"} & set(rows[0])  # a column that says nothing is left out


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

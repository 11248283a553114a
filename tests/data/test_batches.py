import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from vkdnw_pl.data.batches import batches, image_batch


@pytest.mark.parametrize("kind", ["random", "digits"])
def test_a_batch_is_a_pure_function_of_its_arguments(kind):
    before = torch.get_rng_state()
    first, again, other = (image_batch(kind, 8, (3, 20, 20), seed).images for seed in (1, 1, 2))
    assert first.shape == (8, 3, 20, 20)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_is_standard_normal_and_a_larger_batch_begins_alike():
    batch = image_batch("random", 64, (3, 32, 32), 5).images
    assert abs(float(batch.mean())) < 0.01
    assert abs(float(batch.std()) - 1) < 0.01


def test_digits_are_normalised_and_grey():
    batch = image_batch("digits", 500, (3, 16, 16), 1).images
    assert torch.equal(batch[:, 0], batch[:, 2])
    assert abs(float(batch.mean())) < 0.1
    assert abs(float(batch.std()) - 1) < 0.1
    assert len({image.numpy().tobytes() for image in batch}) == 500  # drawn without replacement


def test_images_from_a_file(tmp_path):
    images = np.random.default_rng(0).standard_normal((10, 3, 8, 8))
    np.save(tmp_path / "images.npy", images)
    batch = image_batch(str(tmp_path / "images.npy"), 10, (3, 8, 8), 1).images
    assert {float(x) for x in batch[:, 0, 0, 0]} == {float(np.float32(x)) for x in images[:, 0, 0, 0]}


def test_a_pickle_in_a_file_is_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        image_batch(str(tmp_path / "images.npy"), 1, (3, 8, 8), 1)


@pytest.mark.parametrize(
    ("kind", "batch_size", "words"),
    [
        ("randm", 8, ["'randm' is not known", "random, digits", ".npy"]),
        ("random", 0, ["batch_size=0"]),
        ("digits", 5000, ["batch_size=5000", "1000 images"]),
        ("missing.npy", 8, ["missing.npy", "no such file"]),
    ],
)
def test_errors_name_what_is_allowed(kind, batch_size, words):
    with pytest.raises(ValueError) as caught:
        image_batch(kind, batch_size, (3, 8, 8), 1)
    for word in words:
        assert word in str(caught.value)


def test_images_of_another_size_are_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((10, 1, 8, 8)))
    with pytest.raises(ValueError, match=r"\(10, 1, 8, 8\).*\(n, 3, 8, 8\)"):
        image_batch(str(tmp_path / "images.npy"), 4, (3, 8, 8), 1)


def test_random_labels_do_not_change_the_images():
    plain, with_labels = (image_batch("random", 64, (3, 8, 8), 5, classes) for classes in (None, 10))
    assert plain.labels is None
    assert torch.equal(plain.images, with_labels.images)
    assert with_labels.labels.dtype == torch.int64
    assert set(with_labels.labels.tolist()) <= set(range(10))
    assert len(set(with_labels.labels.tolist())) > 5
    assert not torch.equal(with_labels.labels, image_batch("random", 64, (3, 8, 8), 6, 10).labels)


@pytest.mark.parametrize("source", ["random", "digits"])
def test_numbered_batches(source):
    numbered = batches(source, 100, (3, 8, 8), 2, 10)
    first, second = numbered(0), numbered(1)
    assert torch.equal(first.images, image_batch(source, 100, (3, 8, 8), 2, 10).images)
    seen = {image.numpy().tobytes() for image in first.images}
    assert not seen & {image.numpy().tobytes() for image in second.images}
    assert torch.equal(second.labels, batches(source, 100, (3, 8, 8), 2, 10)(1).labels)


def test_digits_have_their_labels():
    """Images of one class are more alike than others."""
    batch = image_batch("digits", 1000, (1, 8, 8), 1)
    assert sorted(set(batch.labels.tolist())) == list(range(10))
    flat = batch.images.flatten(1)
    means = torch.stack([flat[batch.labels == label].mean(0) for label in range(10)])
    assert float((torch.cdist(flat, means).argmin(1) == batch.labels).float().mean()) > 0.18  # chance is 0.1


def test_digits_run_out():
    with pytest.raises(ValueError, match=r"batch 1 of batch_size=600 needs more than the 1000 images of 'digits'"):
        batches("digits", 600, (3, 8, 8), 1)(1)


def test_images_and_labels_from_a_file(tmp_path):
    images, labels = np.arange(10.0).reshape(10, 1, 1, 1), np.arange(10) % 3
    np.savez(tmp_path / "some.npz", images=images, labels=labels)
    batch = image_batch(str(tmp_path / "some.npz"), 6, (1, 1, 1), 1)
    assert batch.labels.tolist() == [int(x) % 3 for x in batch.images.flatten()]
    np.savez(tmp_path / "bad.npz", pictures=images)
    with pytest.raises(ValueError, match=r"bad.npz' holds pictures; needed: images"):
        image_batch(str(tmp_path / "bad.npz"), 6, (1, 1, 1), 1)
    np.savez(tmp_path / "worse.npz", images=images, labels=labels[:4])
    with pytest.raises(ValueError, match=r"worse.npz' holds labels int64 \(4,\); needed: int \(10,\)"):
        image_batch(str(tmp_path / "worse.npz"), 6, (1, 1, 1), 1)


class Ten(LightningDataModule):
    """A data module as users have it: its training set gives (image, label), augmented at random."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.size = size
        self.stages = []

    def setup(self, stage):
        self.stages.append(stage)

    def train_dataloader(self):
        assert self.stages == ["fit"]
        data = [(torch.full((3, self.size, self.size), float(i)) + torch.rand(1), i % 4) for i in range(10)]
        return DataLoader(data, batch_size=2, shuffle=True)


def test_images_of_a_data_module():
    spec = {"class_path": f"{__name__}.Ten", "init_args": {"size": 5}}
    batch = image_batch(spec, 6, (3, 5, 5), 1)
    assert batch.labels.tolist() == [int(x) % 4 for x in batch.images[:, 0, 0, 0]]
    assert torch.equal(batch.images, image_batch(spec, 6, (3, 5, 5), 1).images)
    with pytest.raises(ValueError, match=r"Ten' has images of shape \(3, 5, 5\); the networks take \(3, 8, 8\)"):
        image_batch(spec, 6, (3, 8, 8), 1)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"class_path": "no.such.Module"}, "'no.such.Module' cannot be imported"),
        ({"class_path": "torch.nn.Linear"}, "'torch.nn.Linear' is not a LightningDataModule"),
        ({"class_path": f"{__name__}.Ten", "init_args": {"sise": 1}}, "sise"),
        ({"class": "x"}, "'class' is not known"),
        ({}, "cannot be imported"),
    ],
)
def test_wrong_data_modules(spec, words):
    with pytest.raises(ValueError, match=words):
        image_batch(spec, 2, (3, 4, 4), 1)

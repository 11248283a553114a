import numpy as np
import pytest
import torch

from vkdnw_pl.data.batches import input_batch


@pytest.mark.parametrize("kind", ["random", "digits"])
def test_a_batch_is_a_pure_function_of_its_arguments(kind):
    before = torch.get_rng_state()
    first, again, other = (input_batch(kind, 8, (3, 20, 20), seed) for seed in (1, 1, 2))
    assert first.shape == (8, 3, 20, 20)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_is_standard_normal_and_a_larger_batch_begins_alike():
    batch = input_batch("random", 64, (3, 32, 32), 5)
    assert abs(float(batch.mean())) < 0.01
    assert abs(float(batch.std()) - 1) < 0.01


def test_digits_are_normalised_and_grey():
    batch = input_batch("digits", 500, (3, 16, 16), 1)
    assert torch.equal(batch[:, 0], batch[:, 2])
    assert abs(float(batch.mean())) < 0.1
    assert abs(float(batch.std()) - 1) < 0.1
    assert len({image.numpy().tobytes() for image in batch}) == 500  # drawn without replacement


def test_images_from_a_file(tmp_path):
    images = np.random.default_rng(0).standard_normal((10, 3, 8, 8))
    np.save(tmp_path / "images.npy", images)
    batch = input_batch(str(tmp_path / "images.npy"), 10, (3, 8, 8), 1)
    assert {float(x) for x in batch[:, 0, 0, 0]} == {float(np.float32(x)) for x in images[:, 0, 0, 0]}


def test_a_pickle_in_a_file_is_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        input_batch(str(tmp_path / "images.npy"), 1, (3, 8, 8), 1)


@pytest.mark.parametrize(
    ("kind", "batch_size", "words"),
    [
        ("randm", 8, ["input='randm'", "random, digits", ".npy"]),
        ("random", 0, ["batch_size=0"]),
        ("digits", 5000, ["batch_size=5000", "1000 images"]),
        ("missing.npy", 8, ["missing.npy", "no such file"]),
    ],
)
def test_errors_name_what_is_allowed(kind, batch_size, words):
    with pytest.raises(ValueError) as caught:
        input_batch(kind, batch_size, (3, 8, 8), 1)
    for word in words:
        assert word in str(caught.value)


def test_images_of_another_size_are_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((10, 1, 8, 8)))
    with pytest.raises(ValueError, match=r"\(10, 1, 8, 8\).*\(n, 3, 8, 8\)"):
        input_batch(str(tmp_path / "images.npy"), 4, (3, 8, 8), 1)

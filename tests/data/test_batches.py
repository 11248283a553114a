import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from vkdnw_pl.data.batches import _data_set, batches, image_batch
from vkdnw_pl.data.digits import Digits


@pytest.mark.parametrize("kind", ["random", "digits"])
def test_a_batch_is_a_pure_function_of_its_arguments(kind):
    before = torch.get_rng_state()
    first, again, other = (image_batch(kind, 8, (3, 20, 20), seed).images for seed in (1, 1, 2))
    assert first.shape == (8, 3, 20, 20)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_digits_do_not_depend_on_the_number_of_threads():
    """Bits of one thread, as workers have them; sums of several end in other digits."""
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            _data_set.cache_clear()
            found.append((image_batch("digits", 64, (3, 20, 20), 1).images, *Digits(image_size=32).image_statistics))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for images, mean, std in found[1:]:
        assert torch.equal(images, found[0][0])
        assert (mean, std) == found[0][1:]


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
        noise = [torch.rand(1) / 2 + np.random.rand() / 2 for _ in range(10)]
        data = [(torch.full((3, self.size, self.size), float(i)) + noise[i], i % 4) for i in range(10)]
        return DataLoader(data, batch_size=2, shuffle=True)


def test_images_of_a_data_module():
    spec = {"class_path": f"{__name__}.Ten", "init_args": {"size": 5}}
    batch = image_batch(spec, 6, (3, 5, 5), 1)
    assert batch.labels.tolist() == [int(x) % 4 for x in batch.images[:, 0, 0, 0]]
    _data_set.cache_clear()
    assert torch.equal(batch.images, image_batch(spec, 6, (3, 5, 5), 1).images), "whatever the global random state"
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


def _damaged(kind, folder):
    path = folder / ("images.npz" if kind.startswith("npz") else "images.npy")
    images = np.ones((4, 1, 2, 2))
    odd = {
        "complex": images * 1j,
        "text": images.astype(str),
        "time": images.astype("datetime64[s]"),
        "not_finite": np.where(np.arange(4)[:, None, None, None] == 2, np.nan, images),
        "fields": images.astype([("red", "f4")]),
    }
    if kind in odd:
        np.save(path, odd[kind])
    elif kind == "npz_complex":
        np.savez(path, images=odd["complex"])
    elif kind == "npz_label":
        np.savez(path, images=images, labels=np.array([0, 1, -1, 2]))
    elif kind == "npz_in_npy":
        np.savez(folder / "other.npz", images=images)
        path = folder / "images.npy"
        (folder / "other.npz").rename(path)
    elif kind == "npz_is_npy":
        np.save(folder / "other.npy", images)
        (folder / "other.npy").rename(path)
    else:
        np.savez(path, images=images) if path.suffix == ".npz" else np.save(path, images)
        raw = bytearray(path.read_bytes())
        if kind.endswith("flipped"):
            raw[raw.index(np.float64(1).tobytes() * 3) + 4] ^= 1
        path.write_bytes(
            {"empty": b"", "truncated": raw[:-9], "header": raw[:50], "flipped": raw}[kind.rpartition("_")[2]]
        )
    return path


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("complex", "holds images of complex128; needed: whole or floating-point numbers"),
        ("text", "holds images of <U32; needed"),
        ("time", r"holds images of datetime64\[s\]; needed"),
        ("fields", "holds images of .*red.*; needed"),
        ("not_finite", "holds images with values that are not finite"),
        ("npz_complex", "holds images of complex128"),
        ("npz_label", "holds the label -1; needed: class numbers from 0"),
        ("npz_in_npy", "is not a .npy file of numbers: its content is that of a .npz file"),
        ("npz_is_npy", "is not a .npz file of numbers: its content is that of a .npy file"),
        *((kind, r"is not a .npy file of numbers: \w") for kind in ("empty", "truncated", "header")),
        *(
            (f"npz_{kind}", r"is not a .npz file of numbers: \w")
            for kind in ("empty", "truncated", "header", "flipped")
        ),
    ],
)
def test_strange_arrays_are_refused_in_one_line(kind, text, tmp_path):
    path = _damaged(kind, tmp_path)
    with pytest.raises(ValueError, match=f"^'{path}' {text}") as caught:
        image_batch(str(path), 2, (1, 2, 2), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int64", "bool", "float16", ">f4", ">u2"])
def test_numbers_of_all_kinds_are_read(kind, tmp_path):
    images = np.arange(8).reshape(2, 1, 2, 2).astype(kind)
    np.save(tmp_path / "images.npy", images)
    batch = image_batch(str(tmp_path / "images.npy"), 2, (1, 2, 2), 1).images
    assert batch.dtype == torch.float32
    assert torch.equal(batch.sort(dim=0).values, torch.from_numpy(images.astype(np.float32)))


def test_numbered_batches_are_drawn_once(monkeypatch):
    drawn = []
    monkeypatch.setattr("vkdnw_pl.data.batches.image_batch", lambda *arguments: drawn.append(arguments[-1]))
    numbered = batches("random", 16, (3, 32, 32), 1)
    for _ in range(2):
        for index in range(64):
            numbered(index)
    assert drawn == list(range(64))

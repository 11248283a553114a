import json

import numpy as np
import pytest
import torch
from image_files import write_cifar
from torchvision import datasets

from vkdnw_pl.data import small_images
from vkdnw_pl.data.small_images import CIFAR10, CIFAR100


@pytest.fixture
def written(tmp_path, monkeypatch):
    """10 training images in each of CIFAR-10's 5 batches, 8 test images; the sums are those of these files."""
    (train, test), content = write_cifar(tmp_path, datasets.CIFAR10, (10, 8))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test)
    return tmp_path, content


def stored(module, part):
    data = module.images(part)
    return torch.stack([data[i][0] for i in range(len(data))]).numpy(), [data[i][1] for i in range(len(data))]


def test_the_published_format(written):
    root, ((train, train_labels), (test, test_labels)) = written
    module = CIFAR10(root=str(root), val_size=0)
    images, labels = stored(module, "train")
    assert np.array_equal(images, train)
    assert labels == train_labels
    for part in ("val", "test"):
        images, labels = stored(module, part)
        assert np.array_equal(images, test)
        assert labels == test_labels


def test_normalised_and_augmented(written):
    root, ((train, _), (test, _)) = written
    module = CIFAR10(root=str(root), val_size=0, batch_size=50, eval_batch_size=5, num_workers=0)
    mean, std = (np.array(x)[:, None, None] for x in ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)))
    batches = list(module.test_dataloader())
    assert [len(images) for images, _ in batches] == [5, 3]
    assert torch.cat([images for images, _ in batches]).numpy() == pytest.approx((test - mean) / std, abs=1e-5)
    images, labels = next(iter(module.train_dataloader()))
    assert images.shape == (50, 3, 32, 32)
    assert labels.dtype == torch.int64
    pixels = images.numpy() * std + mean
    wanted = np.pad(train, ((0, 0), (0, 0), (4, 4), (4, 4)))
    key = next(iter(module.train_dataloader().sampler))[1]
    candidates = [
        view[..., y : y + 32, x : x + 32]
        for view in (wanted[key], wanted[key][..., ::-1])
        for y in range(9)
        for x in range(9)
    ]
    assert sum(np.abs(pixels[0] - candidate).max() < 0.01 for candidate in candidates) == 1


def test_held_out_images(written):
    root, _ = written
    module = CIFAR10(root=str(root), val_size=20)
    parts = [stored(module, part)[0] for part in ("train", "val")]
    assert [len(part) for part in parts] == [30, 20]
    assert len(np.unique(np.concatenate(parts).reshape(50, -1), axis=0)) == 50
    again = CIFAR10(root=str(root), val_size=20, seed=7)
    assert np.array_equal(stored(again, "val")[0], parts[1])
    assert len(module.images("test")) == 8
    with pytest.raises(ValueError, match="val_size=5000 is not allowed: give a whole number from 0 to 49"):
        CIFAR10(root=str(root)).setup("fit")


def test_splits_of_nas_bench_201(written, tmp_path):
    root, ((train, _), (test, _)) = written
    halves = {"train": ["int", [str(i) for i in range(0, 50, 2)]], "valid": ["int", [str(i) for i in range(1, 50, 2)]]}
    (tmp_path / "cifar-split.txt").write_text(json.dumps(halves))
    module = CIFAR10(root=str(root), splits=str(tmp_path / "cifar-split.txt"))
    module.setup("fit")
    assert np.array_equal(stored(module, "train")[0], train[::2])
    assert np.array_equal(stored(module, "val")[0], train[1::2])
    assert np.array_equal(stored(module, "test")[0], test)
    (tmp_path / "x.txt").write_text(json.dumps({"xvalid": [0, 2, 4, 6], "xtest": [1, 3, 5, 7]}))
    module = CIFAR10(root=str(root), splits=str(tmp_path / "x.txt"))
    assert np.array_equal(stored(module, "train")[0], train)
    assert np.array_equal(stored(module, "val")[0], test[::2])
    assert np.array_equal(stored(module, "test")[0], test[1::2])
    (tmp_path / "y.txt").write_text(json.dumps({"xvalid": [0, 2, 4], "xtest": [1, 3, 5]}))
    with pytest.raises(ValueError, match="it splits 3 \\+ 3 images, the last of them 5; here are 8"):
        CIFAR10(root=str(root), splits=str(tmp_path / "y.txt")).setup("test")
    with pytest.raises(ValueError, match="val_size=5 has no meaning with splits="):
        CIFAR10(root=str(root), splits="y.txt", val_size=5)


def test_fine_labels_of_cifar_100(tmp_path, monkeypatch):
    (train, test), content = write_cifar(tmp_path, datasets.CIFAR100, (200, 4), "fine_labels", 100)
    monkeypatch.setattr(datasets.CIFAR100, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR100, "test_list", test)
    module = CIFAR100(root=str(tmp_path), val_size=0)
    assert stored(module, "train")[1] == content[0][1]
    assert max(content[0][1]) == 99
    assert module.num_classes == 100


def test_nothing_there(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"there is no cifar-10-batches-py/data_batch_1; give the folder .*, or download: true .*https://www.cs",
    ):
        CIFAR10(root=str(tmp_path)).setup("fit")


def test_a_changed_file(written):
    root, _ = written
    file = root / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="data_batch_3' is damaged or another file: its MD5"):
        CIFAR10(root=str(root), val_size=0).setup("fit")
    CIFAR10(root=str(root)).setup("test")


def test_hostile_files_with_the_right_sum_run_nothing(written, monkeypatch):
    root, _ = written
    file = root / "cifar-10-batches-py" / "test_batch"
    file.write_bytes(b"cposix\nsystem\n(Vtouch " + str(root / "mark").encode() + b"\ntR.")
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", None]])
    with pytest.raises(ValueError, match=r"asks for posix\.system"):
        CIFAR10(root=str(root)).setup("test")
    assert not (root / "mark").exists()


def test_other_content(written, monkeypatch):
    from image_files import pixels, python2_batch

    root, _ = written
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", None]])
    for content, words in (
        (python2_batch(pixels(3, 32), [0, 1]), "2 labels for 3 images"),
        (python2_batch(pixels(2, 32), [0, 10]), "or some above 9"),
        (python2_batch(pixels(2, 16), [0, 1]), r"has images uint8 \(2, 768\); needed: uint8 \(n, 3072\)"),
        (python2_batch(pixels(2, 32), [0, 1], "names"), "has no 'labels'; it holds data, names"),
    ):
        (root / "cifar-10-batches-py" / "test_batch").write_bytes(content)
        with pytest.raises(ValueError, match=words):
            CIFAR10(root=str(root)).setup("test")


def test_download_only_when_asked_and_needed(written, monkeypatch):
    root, _ = written
    calls = []
    monkeypatch.setattr(
        small_images, "download_and_extract_archive", lambda url, root, **rest: calls.append((url, rest))
    )
    CIFAR10(root=str(root), download=True).prepare_data()
    CIFAR10(root=str(root / "other")).prepare_data()
    assert calls == []
    CIFAR10(root=str(root / "other"), download=True).prepare_data()
    assert calls == [
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            {"filename": "cifar-10-python.tar.gz", "md5": "c58f30108f718f92721af3b95e74349a"},
        )
    ]

    def broken(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(small_images, "download_and_extract_archive", broken)
    with pytest.raises(
        ValueError, match=r"could not be downloaded: no network; get cifar-10-python.tar.gz another way"
    ):
        CIFAR10(root=str(root / "other"), download=True).prepare_data()

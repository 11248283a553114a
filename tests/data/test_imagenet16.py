import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from image_files import pixels

from vkdnw_pl.data import small_images
from vkdnw_pl.data.small_images import ImageNet16


@pytest.fixture
def written(tmp_path, monkeypatch):
    """6 images in each training batch and 10 validation images, labels 1..12; the sums are those of these files."""
    folder = tmp_path / "ImageNet16"
    folder.mkdir()
    lists, content = [], {}
    for seed, (listed, count) in enumerate(
        ((small_images.IMAGENET16_TRAIN_FILES, 6), (small_images.IMAGENET16_VAL_FILES, 10))
    ):
        names = []
        for k, (name, _) in enumerate(listed):
            data, labels = pixels(count, 16, 50 * seed + k), [1 + (5 * i + k) % 12 for i in range(count)]
            raw = pickle.dumps({"data": data, "labels": labels, "mean": data.mean(0)}, 2 + k % 3)
            (folder / name).write_bytes(raw)
            content[name] = data.reshape(-1, 3, 16, 16), np.array(labels)
            names.append((name, hashlib.md5(raw).hexdigest()))
        lists.append(tuple(names))
    monkeypatch.setattr(small_images, "IMAGENET16_TRAIN_FILES", lists[0])
    monkeypatch.setattr(small_images, "IMAGENET16_VAL_FILES", lists[1])
    return tmp_path, content


@pytest.mark.parametrize("inside", [True, False])
def test_first_classes_numbered_from_0(written, inside):
    root, content = written
    module = ImageNet16(root=str(root / "ImageNet16" if inside else root), classes=4, val_size=0)
    names = [f"train_data_batch_{k}" for k in range(1, 11)]
    for part, files in (("train", names), ("val", ["val_data"]), ("test", ["val_data"])):
        images, labels = (np.concatenate([content[name][k] for name in files]) for k in (0, 1))
        kept = labels <= 4
        assert 0 < kept.sum() < len(kept)
        data = module.images(part)
        assert np.array_equal(data.images[data.chosen].numpy(), images[kept])
        assert np.array_equal(data.labels.numpy(), labels[kept] - 1)
    assert module.num_classes == 4
    assert module.input_size == (3, 16, 16)


def test_normalised(written):
    root, content = written
    module = ImageNet16(root=str(root), classes=12, eval_batch_size=10, num_workers=0)
    ((images, labels),) = module.test_dataloader()
    mean, std = (np.array(x)[:, None, None] for x in ((122.68, 116.66, 104.01), (63.22, 61.26, 65.09)))
    assert images.numpy() == pytest.approx((content["val_data"][0] - mean) / std, abs=1e-5)
    assert labels.tolist() == (content["val_data"][1] - 1).tolist()


def test_splits_of_nas_bench_201(written, tmp_path):
    root, content = written
    (tmp_path / "split.txt").write_text(json.dumps({"xvalid": ["int", list("13579")], "xtest": ["int", list("02468")]}))
    module = ImageNet16(root=str(root), classes=12, splits=str(tmp_path / "split.txt"))
    module.setup()
    assert len(module.images("train")) == 60
    assert module.images("val").labels.tolist() == (content["val_data"][1] - 1)[1::2].tolist()
    assert module.images("test").labels.tolist() == (content["val_data"][1] - 1)[::2].tolist()


def test_a_changed_file_is_found_unless_told_otherwise(written):
    root, _ = written
    file = root / "ImageNet16" / "train_data_batch_7"
    batch = pickle.loads(file.read_bytes())
    batch["labels"][0] = 12
    file.write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match="train_data_batch_7' is damaged or another file"):
        ImageNet16(root=str(root), val_size=0).setup("fit")
    ImageNet16(root=str(root), val_size=0, verify=False).setup("fit")
    batch["labels"][0] = 0
    file.write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match="train_data_batch_7' has a label 0; needed: 1 to 1000"):
        ImageNet16(root=str(root), val_size=0, verify=False).setup("fit")
    batch["labels"][0] = 1001
    file.write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match="some above 1000"):
        ImageNet16(root=str(root), val_size=0, verify=False).setup("fit")


def test_hostile_files_run_nothing(written):
    root, _ = written
    file = root / "ImageNet16" / "val_data"
    file.write_bytes(b"cposix\nsystem\n(Vtouch " + str(root / "mark").encode() + b"\ntR.")
    with pytest.raises(ValueError, match=r"asks for posix\.system"):
        ImageNet16(root=str(root), verify=False).setup("test")
    assert not (root / "mark").exists()


def test_missing_files(written, tmp_path):
    root, _ = written
    with pytest.raises(
        ValueError, match=r"neither it nor ImageNet16 in it has train_data_batch_1 .. 10 and val_data; get"
    ):
        ImageNet16(root=str(tmp_path / "none")).setup("fit")
    (root / "ImageNet16" / "train_data_batch_4").unlink()
    with pytest.raises(ValueError, match="train_data_batch_4 is missing; get the folder ImageNet16"):
        ImageNet16(root=str(root)).setup("fit")


def test_classes():
    for wrong in (0, 1001, True):
        with pytest.raises(ValueError, match="classes="):
            ImageNet16(root="x", classes=wrong)
    assert torch.Size(ImageNet16(root="x").input_size) == (3, 16, 16)

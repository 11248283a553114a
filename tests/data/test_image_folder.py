"""The data module of a user's own images."""

import numpy as np
import pytest
import torch
from image_files import photo
from PIL import Image

from vkdnw_pl.data.image_folder import ImageFolder, stratified
from vkdnw_pl.data.transforms import photo_evaluation


@pytest.fixture
def root(tmp_path):
    for k, (name, count) in enumerate((("big cat", 20), ("dog", 10), ("fish", 4))):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f"{i:02}.png").write_bytes(photo(100 * k + i, (20 + i, 30), "PNG"))
    return tmp_path


def module(root, **options):
    return ImageFolder(str(root), **{"image_size": 16, "num_workers": 0, "batch_size": 5} | options)


def parts_of(made):
    return {part: made.file_names(part) for part in ("train", "val", "test")}


def test_one_folder_is_split_by_class(root):
    made = module(root)
    names = parts_of(made)
    assert {part: len(files) for part, files in names.items()} == {"train": 27, "val": 7, "test": 7}
    assert [sum(file.startswith(name) for file in names["val"]) for name in made.class_names] == [4, 2, 1]
    assert not set(names["train"]) & set(names["val"])
    assert parts_of(module(root)) == names
    assert made.validates_on_test
    assert made.notes == [
        "3 classes, 27 training and 7 validation images; no images are set apart for testing: the validation images are "
        "the test images"
    ]
    assert [len(module(root, val_size=size).images("val")) for size in (3, 0.5, 33 / 34 - 0.1)] == [3, 17, 30]


def test_classes_without_validation_images_are_said(root):
    made = module(root, val_size=3)
    assert "classes without a validation image, whose accuracy counts nowhere: 'fish'" in made.notes


def test_stratified_counts():
    labels = np.repeat([0, 1, 2, 3], [7, 1, 12, 5])
    for size in range(1, 21):
        kept, held = stratified(labels, size)
        assert sorted([*kept, *held]) == list(range(25))
        assert len(held) == size
        shares = np.bincount(labels) * size / 25
        assert (abs(np.bincount(labels[held], minlength=4) - shares) <= 1).all()
        assert np.bincount(labels[kept], minlength=4).min() >= 1
    with pytest.raises(ValueError, match="24 of 25 images held out would leave a class without one"):
        stratified(labels, 24)


def test_test_images_are_kept_apart(root):
    folders = [folder.name for folder in root.iterdir()]
    for part in ("train", "test"):
        for name in folders:
            (root / part / name).mkdir(parents=True)
            for file in sorted((root / name).iterdir())[slice(1, None) if part == "train" else slice(1)]:
                (root / part / name / file.name).write_bytes(file.read_bytes())
    made = module(root)
    names = parts_of(made)
    assert sorted(names["test"]) == sorted(f"test/{name}/00.png" for name in folders)
    assert len(names["val"]) == 6
    assert not made.validates_on_test
    assert module(root, val_size=0).file_names("val") == names["test"]
    assert module(root, val_size=0).validates_on_test
    (root / "test").rename(root / "val")
    assert module(root).file_names("test") == module(root).file_names("val")
    with pytest.raises(ValueError, match=r"val_size=0.1 has no use: '.*' has validation images; leave it out"):
        module(root, val_size=0.1)


def test_what_the_network_sees(root):
    made = module(root, image_size=24)
    assert (made.num_classes, made.class_names, made.input_size) == (3, ("big cat", "dog", "fish"), (3, 24, 24))
    images, labels = (torch.cat(parts) for parts in zip(*made.val_dataloader(), strict=True))
    transform, finish = photo_evaluation(24, 0.875)
    files = made.file_names("val")
    assert torch.equal(images, finish(torch.stack([transform(Image.open(root / file)) for file in files])))
    assert [made.class_names[label] for label in labels] == [file.partition("/")[0] for file in files]


def test_images_of_every_kind(root):
    grey = Image.fromarray(np.arange(0, 256, dtype=np.uint8).reshape(16, 16))
    grey.save(root / "dog" / "a.png")
    grey.convert("RGBA").save(root / "dog" / "b.png")
    grey.convert("P").save(root / "dog" / "c.png")
    grey.convert("CMYK").save(root / "dog" / "d.jpg")
    grey.convert("1").save(root / "dog" / "e.tif")
    Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)).save(root / "dog" / "f.png")
    grey.resize((1, 1)).save(root / "dog" / "g.bmp")
    grey.resize((300, 2)).save(root / "dog" / "h.webp")
    made = module(root, val_size=1, drop_last=False)
    made.prepare_data()
    images = torch.cat([images for images, _ in made.train_dataloader()])
    assert images.shape == (41, 3, 16, 16)
    assert images.isfinite().all()


def test_options_change_the_training_images(root):
    plain = module(root).proxy_batch(8).images
    for change in (
        *({"crop_scale": 1.0}, {"flip": False}, {"auto_augment": True}),
        *({"color_jitter": 0.5}, {"erase_probability": 1.0}),
    ):
        assert not torch.equal(module(root, **change).proxy_batch(8).images, plain), change


def test_broken_files_are_named_before_training(root):
    (root / "dog" / "00.png").write_bytes(b"no image")
    (root / "fish" / "00.png").write_bytes(b"")
    made = module(root)
    with pytest.raises(
        ValueError, match=rf"image file '{root}/dog/00.png' \(and 1 more\) cannot be read: cannot identify"
    ):
        made.prepare_data()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"image_size": 4}, "image_size=4 is not allowed: give a whole number of at least 8"),
        (
            {"val_size": 34},
            "val_size=34 is not allowed: give a number of images, below the 34 that there are, or a share",
        ),
        ({"val_size": 1.0}, "val_size=1.0 is not allowed"),
        ({"val_size": -0.1}, "val_size=-0.1 is not allowed"),
        ({"val_size": False}, "val_size=False is not allowed"),
        ({"val_size": 0}, r"val_size=0 is not allowed: '.*' has no test images to validate on"),
        ({"val_size": 33}, "33 of 34 images held out would leave a class without one to train on"),
        ({"crop_scale": 0}, "crop_scale=0 is not allowed"),
        ({"flip": 1}, "flip=1 is not allowed: give true or false"),
    ],
)
def test_wrong_options(root, wrong, words):
    with pytest.raises(ValueError, match=words):
        module(root, **wrong)


def test_fewer_images_than_a_batch(root):
    with pytest.raises(
        ValueError, match=r"batch_size=64 x 1 .* only 27 training images; give a smaller batch_size or drop_last"
    ):
        module(root, batch_size=64).train_dataloader()

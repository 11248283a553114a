import pytest
import torch
from image_files import photo, write_photos
from PIL import Image
from torchvision.datasets import ImageFolder

from vkdnw_pl.data import imagenet
from vkdnw_pl.data.imagenet import ImageNet
from vkdnw_pl.data.transforms import photo_evaluation

NAMES = ["n01440764", "n01443537", "n02102040"]


@pytest.fixture
def root(tmp_path):
    write_photos(tmp_path, NAMES, (4, 2))
    return tmp_path


def module(root, **options):
    return ImageNet(**{"root": str(root), "classes": 3, "image_size": 16, "num_workers": 0, "batch_size": 5} | options)


def test_images_and_classes_are_those_of_torchvision(root):
    made = module(root)
    made.setup()
    for part, folder in (("train", "train"), ("val", "val"), ("test", "val")):
        data, reference = made.images(part), ImageFolder(str(root / folder))
        assert len(data) == len(reference) == (12 if folder == "train" else 6)
        for (image, label), (expected, known) in zip((data[i] for i in range(len(data))), reference, strict=True):
            assert label == known
            assert image.tobytes() == expected.tobytes()


def test_loaders(root):
    made = module(root, auto_augment=True, erase_probability=0.5)
    images, labels = next(iter(made.train_dataloader()))
    assert images.shape == (5, 3, 16, 16)
    assert images.dtype == torch.float32
    transform, finish = photo_evaluation(16, 0.875)
    expected = finish(torch.stack([transform(image) for image, _ in ImageFolder(str(root / "val"))]))
    assert torch.equal(torch.cat([images for images, _ in made.val_dataloader()]), expected)
    assert labels.max() < 3


def test_options_reach_the_transform(root):
    plain = module(root, color_jitter=0.0, lighting=0.0).proxy_batch(6).images
    for change in ({"color_jitter": 0.4}, {"lighting": 0.5}, {"erase_probability": 1.0}, {"auto_augment": True}):
        options = {"color_jitter": 0.0, "lighting": 0.0} | change
        assert not torch.equal(module(root, **options).proxy_batch(6).images, plain), change
    assert module(root, image_size=20, crop_pct=0.5).input_size == (3, 20, 20)


def test_held_out_images(root):
    made = module(root, val_size=5)
    parts = [made.images(part) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [7, 5, 6]
    assert len({*parts[0].files.tolist(), *parts[1].files.tolist()}) == 12
    assert made.class_names == tuple(NAMES)
    names = made.file_names("test")
    assert names == [f"val/{name}/{name}_{i}.JPEG" for name in NAMES for i in range(2)]
    assert made.images("test")[3][0].tobytes() == Image.open(root / names[3]).tobytes()


def test_a_truncated_file_is_named(root):
    file = root / "val" / NAMES[1] / f"{NAMES[1]}_1.JPEG"
    file.write_bytes(photo(3)[:-200])
    made = module(root, eval_batch_size=2)
    with pytest.raises(ValueError, match=rf"image file '{file}' cannot be read: .*truncated"):
        list(made.val_dataloader())
    list(made.train_dataloader())


def test_class_folders_must_agree(root):
    (root / "val" / NAMES[1]).rename(root / "val" / "n01443000")
    with pytest.raises(ValueError, match="folders of train and val differ, first n01443537 and n01443000"):
        module(root).setup("fit")
    with pytest.raises(ValueError, match="of val and train differ, first n01443000 and n01443537"):
        module(root).setup("test")


@pytest.mark.parametrize("again", [1, 2])
def test_number_of_classes(root, again):
    made = module(root, classes=4)
    for _ in range(again):
        with pytest.raises(ValueError, match=r"train' has 3 class folders; classes=4"):
            made.setup("fit")


def test_an_incomplete_copy(tmp_path, monkeypatch):
    names = [f"n{i:08}" for i in range(1000)]
    for name in names:
        for folder in ("train", "val"):
            (tmp_path / folder / name).mkdir(parents=True)
            (tmp_path / folder / name / "a.JPEG").touch()
    with pytest.raises(
        ValueError, match=r"train' has 1,000 images; ImageNet has 1,281,167, .*\(subset: true accepts it"
    ):
        module(tmp_path, classes=1000).setup("fit")
    module(tmp_path, classes=1000, subset=True).setup("fit")
    monkeypatch.setattr(imagenet, "_COUNTS", {"train": 1000, "val": 1000})
    module(tmp_path, classes=1000).setup("fit")


def test_a_class_without_images(root):
    for file in (root / "train" / NAMES[2]).iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=rf"must have one folder of images for each class.*{NAMES[2]}"):
        module(root).setup("fit")


def test_what_is_missing_and_how_to_get_it(tmp_path):
    with pytest.raises(
        ValueError, match=r"no folder train in it.*put ILSVRC2012_img_train.tar there, from image-net.org"
    ):
        module(tmp_path).setup("fit")
    (tmp_path / "ILSVRC2012_img_train.tar").touch()
    with pytest.raises(
        ValueError, match=r"ILSVRC2012_img_train.tar are there: extract: true makes the folder from them"
    ):
        module(tmp_path).setup("fit")
    (tmp_path / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(ValueError, match=r"put ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz there"):
        module(tmp_path).setup("test")


@pytest.mark.parametrize(
    "wrong",
    [{"image_size": 4}, {"crop_pct": 0}, {"crop_pct": 1.5}, {"color_jitter": 2}, {"lighting": -1}, {"classes": 0}],
)
def test_wrong_options(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}=.* is not allowed: give"):
        module("x", **wrong)


def test_a_worker_says_no_more_than_the_file(root):
    file = root / "val" / NAMES[1] / f"{NAMES[1]}_1.JPEG"
    file.write_bytes(photo(3)[:-200])
    with pytest.raises(ValueError, match=rf"^image file '{file}' cannot be read: .*truncated.*remove it$"):
        list(module(root, num_workers=1).val_dataloader())

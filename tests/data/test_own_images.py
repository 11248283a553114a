"""What a user's folder or CSV file holds, and what is said where it holds something else."""

import os
from pathlib import Path

import pytest
from image_files import photo, write_photos
from torchvision import datasets

from vkdnw_pl.data.own_images import ENDINGS, is_own_images, read_own_images

PHOTO = photo(0, (9, 7), "PNG")


def write(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PHOTO)
    return root


def write_csv(root, text):
    (root / "list.csv").write_text(text, encoding="utf-8")
    return str(root / "list.csv")


def refused(source):
    with pytest.raises(ValueError) as caught:
        read_own_images(str(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_and_classes_are_those_of_torchvision(tmp_path):
    write(tmp_path, "b/10.png", "b/9.PNG", "a dog/x/2.png", "a dog/1.jpeg", "Ä/ü 1.webp", "Ä/b.tif", "a dog/x.d/0.bmp")
    listed, reference = read_own_images(str(tmp_path)), datasets.ImageFolder(str(tmp_path))
    assert list(listed.classes) == reference.classes == ["a dog", "b", "Ä"]
    assert [str(tmp_path / file) for file in listed.parts["train"].files] == [path for path, _ in reference.samples]
    assert listed.parts["train"].labels == reference.targets
    assert datasets.folder.IMG_EXTENSIONS == ENDINGS


def test_what_programs_leave_behind_is_no_class_and_no_image(tmp_path):
    write(tmp_path, "a/1.png", "a/._1.png", "b/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/a/1.png", "b/.x/1.png")
    (tmp_path / "b" / "notes.txt").touch()
    listed = read_own_images(str(tmp_path))
    assert listed.parts["train"].files == ["a/1.png", "b/1.png"]
    assert listed.left_out == ["b/notes.txt"]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "Testing")])
def test_folders_for_each_part(tmp_path, names):
    for folder, count in zip(names, (3, 2, 1), strict=True):
        write(tmp_path, *(f"{folder}/{name}/{i}.png" for name in ("cat", "dog") for i in range(count)))
    listed = read_own_images(str(tmp_path))
    assert {part: len(images.files) for part, images in listed.parts.items()} == {"train": 6, "val": 4, "test": 2}
    assert listed.parts["test"].files == [f"{names[2]}/cat/0.png", f"{names[2]}/dog/0.png"]


def test_a_class_may_be_called_train(tmp_path):
    listed = read_own_images(str(write(tmp_path, "bus/1.png", "train/1.png")))
    assert (listed.classes, list(listed.parts)) == (("bus", "train"), ["train"])


def test_what_is_wrong_with_a_folder(tmp_path):
    where = repr(str(tmp_path))
    assert refused(tmp_path / "no").startswith(
        f"'{tmp_path}/no' does not exist; give a folder of one folder of images for"
    )
    assert refused(tmp_path).startswith(f"{where} has no folders in it; give a folder")
    write(tmp_path, "1.png", "2.png")
    assert refused(tmp_path).startswith(f"{where} has 2 images, but no class folders")
    assert refused(tmp_path / "1.png").startswith(f"'{tmp_path}/1.png' is no folder and no CSV file")
    write(tmp_path, "all/cat/1.png")
    for name in ("1.png", "2.png"):
        (tmp_path / name).unlink()
    assert refused(tmp_path).endswith("has a single class, 'all', so there is nothing to tell apart")
    write(tmp_path, "all/dog/1.png")
    assert refused(tmp_path).endswith(f"; did you mean '{tmp_path}/all'?")
    (tmp_path / "phone").mkdir()
    for i in range(2):
        (tmp_path / "phone" / f"{i}.HEIC").touch()
    assert f"{where} has class folders without images: 'phone' (its files: .heic); images end in .jpg" in refused(
        tmp_path
    )


def test_classes_of_the_parts_must_agree(tmp_path):
    write_photos(tmp_path, ["cat", "cow", "dog"], (1, 1))
    os.rename(tmp_path / "val" / "cow", tmp_path / "val" / "cows")
    assert refused(tmp_path) == (
        f"'{tmp_path}': the class folders of train and val differ (only in train: 'cow'; only in val: 'cows')"
    )


def test_folders_whose_use_is_not_clear(tmp_path):
    write(tmp_path / "a", "val/cat/1.png", "val/dog/1.png", "cat/1.png")
    assert "has a folder val of class folders, but no train" in refused(tmp_path / "a")
    write(tmp_path / "b", "train/cat/1.png", "train/dog/1.png", "test/1.png")
    assert f"'{tmp_path}/b/test' must have one folder of images for each class, as train has" in refused(tmp_path / "b")
    write(tmp_path / "c", "train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "valid/cat/1.png")
    assert "has both val and valid; which one is meant" in refused(tmp_path / "c")


def test_images_that_belong_nowhere(tmp_path):
    write(tmp_path, "train/1.png", "val/1.png")
    assert "has train and val, and no class folders in them" in refused(tmp_path)
    write(tmp_path / "class", "car/1.png", "train/a/1.png", "train/b/1.png")
    assert "beside it 'car' with images: if train is a class, give it another name" in refused(tmp_path / "class")
    write(tmp_path / "loose", "a/1.png", "b/1.png", "cover.png")
    assert "images beside its folders (1, the first is 'cover.png'), of no class" in refused(tmp_path / "loose")
    write(tmp_path / "parts", *(f"{part}/{name}/1.png" for part in ("train", "val", "more") for name in "ab"))
    assert read_own_images(str(tmp_path / "parts")).left_out_folders == ["more"]
    write(tmp_path / "parts", "val/cover.png")
    assert "images beside its folders" in refused(tmp_path / "parts")


def test_a_csv_file(tmp_path):
    write(tmp_path, "x/1.png", "x/2.png", "my pics/ü.png", "4.png")
    rows = "x/1.png,dog\nx/2.png,cat\nmy pics/ü.png,dog\n"
    listed = read_own_images(write_csv(tmp_path, "file,label\n" + rows + f"{tmp_path / '4.png'},cat\n"))
    assert (listed.root, listed.classes) == (tmp_path, ("cat", "dog"))
    assert listed.parts["train"].files == ["x/1.png", "x/2.png", "my pics/ü.png", f"{tmp_path}/4.png"]
    assert listed.parts["train"].labels == [1, 0, 1, 0]
    listed = read_own_images(
        write_csv(tmp_path, "\ufefflabel;split;file\r\n10;train;x/1.png\r\n9;train;x/2.png\r\n9;Valid;4.png\r\n")
    )
    assert listed.classes == ("9", "10")
    assert {part: images.labels for part, images in listed.parts.items()} == {"train": [1, 0], "val": [0]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n", "line 1: there is no column 'file'"),
        ("file,label\n", "lists no images"),
        (
            "file,label,fold\n1.png,a,1\n",
            "line 1: column 'fold' is not known; the columns are file, label and perhaps split",
        ),
        ("file,label\n1.png,\n", "line 2, column 'label' is empty"),
        ("file,label\n1.png,a\n3.png,b\n", "line 3, column 'file': there is no file '{root}/3.png'"),
        ("file,label\n1.png,a\n./1.png,b\n", "line 3, column 'file': './1.png' stands in line 2 too"),
        ("file,label,split\n1.png,a,trian\n", "'trian' is not allowed: give train, val or test; did you mean 'train'?"),
        ("file,label,split\n1.png,a,val\n", "no line has the split train"),
        ("file,label,split\n1.png,a,train\n2.png,b,val\n", "labels without an image for training: 'b'"),
        ("file,label\n1.png,a\n", "has a single class, 'a'"),
    ],
)
def test_what_is_wrong_with_a_csv_file(tmp_path, text, words):
    write(tmp_path, "1.png", "2.png")
    assert words.format(root=tmp_path) in refused(write_csv(tmp_path, text))


def test_the_digest_is_of_the_images_not_of_their_place(tmp_path):
    write(tmp_path / "a", "cat/1.png", "dog/1.png")
    digest = read_own_images(str(tmp_path / "a")).digest
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_own_images(str(tmp_path / "b")).digest == digest
    write(tmp_path / "b", "dog/2.png")
    assert read_own_images(str(tmp_path / "b")).digest != digest


def test_paths_and_names(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path, "pics/a/1.png", "Digits/a/1.png", "images.npy"))
    write_csv(tmp_path, "")
    assert [is_own_images(name) for name in ("pics", "./Digits", "list.csv", str(tmp_path))] == [True] * 4
    for other in ("Digits", "digits", "random", "my.module.Data", "images.npy", "{class_path: Digits}", ""):
        assert not is_own_images(other)
    for missing in ("pic/", "./pic", "a.csv", str(Path("pics", "b"))):
        with pytest.raises(ValueError, match="there is no folder and no file"):
            is_own_images(missing)

import io
import tarfile
from pathlib import Path

import pytest
from image_files import devkit, tar_of, write_archives

from vkdnw_pl.data import imagenet
from vkdnw_pl.data.imagenet import ImageNet

WNIDS = ["n02119789", "n01440764", "n02100735"]  # numbered in another order than that of their names
TRUTH = [3, 1, 1, 2, 3, 2]


@pytest.fixture
def published(tmp_path):
    return tmp_path, write_archives(tmp_path, WNIDS, 4, TRUTH)


def module(root, **options):
    return ImageNet(**{"root": str(root), "classes": 3, "image_size": 16, "extract": True} | options)


def files(root):
    paths = [path for folder in ("train", "val") for path in (root / folder).rglob("*.JPEG")]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_folders_are_made(published, capsys):
    root, whole = published
    made = module(root)
    made.prepare_data()
    assert files(root) == whole
    assert not list(root.glob("*.part"))
    assert "ILSVRC2012_img_train.tar: 100%" in capsys.readouterr().err
    made.setup()
    assert len(made.images("train")) == 12
    # in the order of the folders: n01440764 (number 2), n02100735 (3), n02119789 (1)
    names = [name.decode()[-10:-5] for name in made.images("val").files]
    assert names == ["00004", "00006", "00001", "00005", "00002", "00003"]
    assert [made.images("val")[i][1] for i in range(6)] == [0, 0, 1, 1, 2, 2]


def test_only_when_asked_and_needed(published, monkeypatch):
    root, _ = published
    module(root, extract=False).prepare_data()
    assert not (root / "train").exists()
    module(root).prepare_data()
    monkeypatch.setattr(imagenet, "_opened", None)
    module(root).prepare_data()


def test_an_interrupted_extraction_goes_on(published, monkeypatch):
    """Interrupted inside of the second class: what is there is neither taken for whole nor made again."""
    root, whole = published
    extractall, calls = tarfile.TarFile.extractall, []

    def stops(self, path, **rest):
        calls.append(path)
        if len(calls) == 2:
            self.extract(self.next(), path, filter="data")
            raise KeyboardInterrupt
        extractall(self, path, **rest)

    monkeypatch.setattr(tarfile.TarFile, "extractall", stops)
    with pytest.raises(KeyboardInterrupt):
        module(root).prepare_data()
    assert not (root / "train").exists()
    assert sorted(path.name for path in (root / "train.part").iterdir()) == [f"{WNIDS[1]}.part", WNIDS[0]]
    with pytest.raises(ValueError, match="there is no folder train"):
        module(root).setup("fit")
    module(root).prepare_data()
    assert files(root) == whole
    assert [path.name for path in calls] == [f"{WNIDS[k]}.part" for k in (0, 1, 1, 2)]


def test_validation_images_go_on_too(published, monkeypatch):
    root, whole = published
    extract, calls = tarfile.TarFile.extract, []

    def stops(self, member, path, **rest):
        calls.append(member.name)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        extract(self, member, path, **rest)

    monkeypatch.setattr(tarfile.TarFile, "extract", stops)
    with pytest.raises(
        ValueError, match=r"img_val.tar' could not be extracted: .*No space left.*; call again to go on"
    ):
        module(root).prepare_data()
    assert not (root / "val").exists()
    half = root / "val.part" / WNIDS[2] / "ILSVRC2012_val_00000001.JPEG"
    half.write_bytes(half.read_bytes()[:10])  # as a kill leaves it
    module(root).prepare_data()
    assert files(root) == whole
    assert len(calls) == 3 + 5  # all but the second one


def test_truncated_archives(published):
    root, _ = published
    for name, words in (("train", "img_train.tar' is damaged"), ("val", "img_val.tar' is damaged")):
        archive = root / f"ILSVRC2012_img_{name}.tar"
        whole = archive.read_bytes()
        archive.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=words):
            module(root).prepare_data()
        assert not (root / name).exists()
        archive.write_bytes(whole)
    module(root).prepare_data()


def test_archives_that_are_not_whole(published):
    root, _ = published
    with pytest.raises(ValueError, match=r"img_train.tar' has 3 classes; classes=4: the file is not whole"):
        module(root, classes=4).prepare_data()
    module(root).prepare_data()
    (root / "val").rename(root / "old")
    (root / imagenet._DEVKIT).write_bytes(devkit(WNIDS, [*TRUTH, 1]))
    with pytest.raises(ValueError, match=r"img_val.tar' has 6 of 7 images: the file is not whole"):
        module(root).prepare_data()


@pytest.mark.parametrize("name", ["../evil.JPEG", "/tmp/evil.JPEG", "link"])
def test_members_that_leave_the_folder(published, name):
    root, _ = published
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "../../../../evil"
        tar.addfile(member)
    (root / imagenet._TRAIN).write_bytes(tar_of({f"{WNIDS[0]}.tar": target.getvalue()}))
    if name.startswith("/"):  # becomes a path in the folder
        with pytest.raises(ValueError, match="has 1 classes"):
            module(root).prepare_data()
    else:
        with pytest.raises(ValueError, match=r"img_train.tar' is damaged or another file: .*outside"):
            module(root).prepare_data()
    assert not (root.parent / "evil.JPEG").exists()
    assert not Path("/tmp/evil.JPEG").exists()


def test_other_archives(published):
    root, _ = published
    (root / imagenet._TRAIN).write_bytes(tar_of({"n1.tar": b""}))
    with pytest.raises(ValueError, match=r"it holds 'n1.tar'; expected are tar files of classes"):
        module(root).prepare_data()
    write_archives(root, WNIDS, 1, TRUTH)
    (root / imagenet._VAL).write_bytes(tar_of({"ILSVRC2012_val_00000007.JPEG": b""}))
    with pytest.raises(ValueError, match=r"it holds 'ILSVRC2012_val_00000007.JPEG'; expected: .* to 00000006"):
        module(root).prepare_data()
    for content in (b"", b"\x1f\x8b\x08\x00broken", devkit(WNIDS, TRUTH)[:-100], tar_of({"a": b""}, "w:gz")):
        (root / imagenet._DEVKIT).write_bytes(content)
        with pytest.raises(ValueError, match=r"devkit_t12.tar.gz' (is damaged|could not be extracted)"):
            module(root).prepare_data()
    (root / imagenet._DEVKIT).unlink()
    with pytest.raises(ValueError, match=r"needs '.*devkit_t12.tar.gz', which is not there"):
        module(root).prepare_data()

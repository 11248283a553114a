"""Writes tiny data sets in the formats in which the real ones are published."""

import hashlib
import io
import struct
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat


def python2_batch(data, labels, label_key="labels"):
    """What Python 2's cPickle.dump(batch, file, 2) wrote in 2009: the format of CIFAR's files."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def integer(value):
        return b"J" + struct.pack("<i", value)

    kind = (
        b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|") + b"NNN" + integer(-1) * 2 + b"K\x00tb"
    )
    raw = data.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    state = b"(K\x01" + b"".join(map(integer, data.shape)) + b"\x86" + kind + b"\x89T" + integer(len(raw))[1:] + raw
    listed = b"](" + b"".join(map(integer, labels)) + b"e"
    return b"\x80\x02}(" + text("data") + array + state + b"tb" + text(label_key) + listed + b"u."


def pixels(count, image_size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3 * image_size**2), dtype=np.uint8)


def write_cifar(root, published, counts, label_key="labels", classes=10):
    """Write the batches of CIFAR; returns torchvision's lists (name, md5), and all pixels and labels."""
    folder = root / published.base_folder
    folder.mkdir(parents=True)
    lists, content = [], []
    for seed, (listed, count) in enumerate(zip((published.train_list, published.test_list), counts, strict=True)):
        names, images, labels = [], [], []
        for k, (name, _) in enumerate(listed):
            data, known = pixels(count, 32, 10 * seed + k), [(i * 7 + k) % classes for i in range(count)]
            raw = python2_batch(data, known, label_key)
            (folder / name).write_bytes(raw)
            names.append([name, hashlib.md5(raw).hexdigest()])
            images.append(data)
            labels += known
        lists.append(names)
        content.append((np.concatenate(images).reshape(-1, 3, 32, 32), labels))
    return lists, content


def photo(seed, size=(40, 50), kind="JPEG", mode="RGB"):
    """Bytes of an image file, smooth as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, kind)
    return file.getvalue()


def write_photos(root, names, per_class):
    """Write root/train and root/val with class folders."""
    for k, (folder, count) in enumerate(zip(("train", "val"), per_class, strict=True)):
        for c, name in enumerate(names):
            (root / folder / name).mkdir(parents=True)
            for i in range(count):
                (root / folder / name / f"{name}_{i}.JPEG").write_bytes(photo(1000 * k + 100 * c + i))


def tar_of(files, mode="w"):
    """Bytes of a tar file of {name: bytes}."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def devkit(wnids, truth):
    """Bytes of a development kit: classes numbered from 1 in the order given, an inner node, and the ground truth."""
    kind = [(name, "O") for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(i + 1, wnid, f"word {i}", "gloss", 0) for i, wnid in enumerate(wnids)]
    rows.append((len(wnids) + 1, "n99999999", "entity", "gloss", len(wnids)))
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=kind).reshape(-1, 1)})
    data = "ILSVRC2012_devkit_t12/data/"
    lines = "".join(f"{number}\n" for number in truth).encode()
    return tar_of({f"{data}meta.mat": meta.getvalue(), f"{data}ILSVRC2012_validation_ground_truth.txt": lines}, "w:gz")


def write_archives(root, wnids, per_class, truth):
    """Write the three files of ILSVRC 2012; returns the images {path in the folders: bytes}."""
    root.mkdir(parents=True, exist_ok=True)
    whole, tars = {}, {}
    for c, wnid in enumerate(wnids):
        images = {f"{wnid}_{i}.JPEG": photo(100 * c + i) for i in range(per_class)}
        tars[f"{wnid}.tar"] = tar_of(images)
        whole |= {f"train/{wnid}/{name}": content for name, content in images.items()}
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(tars))
    images = {f"ILSVRC2012_val_{i + 1:08}.JPEG": photo(5000 + i) for i in range(len(truth))}
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of(images))
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(devkit(wnids, truth))
    for number, (name, content) in zip(truth, images.items(), strict=True):
        whole[f"val/{wnids[number - 1]}/{name}"] = content
    return whole

"""``predict RUN --images DIR``, and the whole trip there: from a folder of pictures to names for new ones."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vkdnw_pl import cli
from vkdnw_pl.training.exported import NetworkRecord, load_exported, read_exported, save_exported
from vkdnw_pl.training.pictures import find_pictures

TINY = "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE1K3(8,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
NAMES = ("dark, at night", "red fox", 'the "white" one')
COLOURS = ((20, 20, 30), (200, 60, 30), (240, 240, 240))


def call(capsys, *arguments):
    code = cli.main([str(one) for one in arguments])
    return code, *capsys.readouterr()


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save_picture(path, number, seed):
    """One of a class, in colours that anybody can tell apart."""
    noise = np.random.default_rng(seed).integers(-20, 20, (40, 52, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(COLOURS[number]) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network that was not trained, with names and normalisation."""
    folder = tmp_path_factory.mktemp("exported")
    normalisation = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    names = dict(class_names=list(NAMES), crop_pct=0.8, interpolation="bilinear", normalisation=normalisation)
    record = NetworkRecord(space="mbv2", arch=TINY, num_classes=3, input_size=[3, 16, 16], **names)
    torch.manual_seed(0)
    save_exported(folder / "model.pt", record, record.build().state_dict())
    return folder


@pytest.fixture
def pictures(tmp_path):
    for number in range(3):
        save_picture(tmp_path / "new" / f"{number}" / "deep, er" / f"{number} a.png", number, number)
    (tmp_path / "new" / "notes.txt").write_text("no picture")
    return tmp_path / "new"


@pytest.mark.parametrize("resized_from", [None, 24])
def test_pictures_are_prepared_as_the_network_says(resized_from, exported, pictures, tmp_path, capsys):
    network = load_exported(exported)
    if resized_from:  # as with model.student_size
        record, state = read_exported(exported)
        exported = tmp_path / "model.safetensors"
        save_exported(exported, replace(record, resized_from=resized_from), state)
    code, out, err = call(capsys, "predict", exported, "--images", pictures, "--out", tmp_path / "out")
    assert code == 0, err
    rows = table(tmp_path / "out" / "predictions.csv")
    assert [row["file"] for row in rows] == [f"{number}/deep, er/{number} a.png" for number in range(3)]
    assert not {"label", "correct"} & set(rows[0])
    assert "3 pictures, 3 classes" in out
    assert f"by class: {rows[0]['predicted_name']!r} " in out
    size, box = ((39, 30), (8, 3, 32, 27)) if resized_from else ((26, 20), (5, 2, 21, 18))
    for number, row in enumerate(rows):
        with Image.open(pictures / row["file"]) as image:
            image = image.resize(size, Image.Resampling.BILINEAR).crop(box)
        normal = (np.asarray(image) / 255 - (0.4, 0.5, 0.6)) / (0.2, 0.25, 0.3)
        prepared = torch.tensor(normal, dtype=torch.float32).permute(2, 0, 1)[None]
        prepared = torch.nn.functional.interpolate(prepared, size=(16, 16), mode="bilinear")
        shares = network(prepared).detach().softmax(1)[0]
        assert row["predicted_name"] == NAMES[int(shares.argmax())]
        assert float(row["probability"]) == pytest.approx(float(shares.max()), abs=1e-5)
        assert [row[f"top{i}"] for i in (1, 2, 3)] == [NAMES[i] for i in shares.argsort(descending=True)]
        assert row["index"] == str(number)


def test_broken_pictures_are_named_and_the_others_labelled(exported, pictures, tmp_path, capsys):
    (pictures / "1" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    code, _, err = call(capsys, "predict", exported / "model.pt", "--images", pictures, "--out", tmp_path / "out")
    assert code == 1
    assert f"not labelled: image file '{pictures / '1' / 'cut.jpg'}' cannot be read" in err
    assert "1 of 4 pictures cannot be read" in err
    assert len(table(tmp_path / "out" / "predictions.csv")) == 3
    code, _, err = call(capsys, "predict", exported, "--images", pictures / "1" / "cut.jpg", "--out", tmp_path / "no")
    assert code == 1
    assert "1 of 1 pictures cannot be read; nothing is written" in err
    assert not (tmp_path / "no").exists()


def test_one_picture_by_default_below_predictions(exported, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = "new/1/deep, er/1 a.png"
    code, out, _ = call(capsys, "predict", exported, "--images", picture, "--top_k", 0, "--device", "cpu")
    assert code == 0
    (path,) = tmp_path.glob("predictions/1 a-*/predictions.csv")
    assert f"predictions in {path.relative_to(tmp_path)}" in out
    (row,) = table(path)
    assert list(row) == ["index", "file", "predicted", "predicted_name", "probability"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{exported}", "--images", "{nowhere}"], "does not exist; give a folder of pictures, or one picture"),
        (["{exported}", "--images", "{empty}"], "holds no pictures, whose names end in .jpg,"),
        (["{exported}", "--images", "{empty}"], "it has 1 other file(s), such as 'notes.txt'"),
        (["{nowhere}", "--images", "{pictures}"], "does not exist; give a run folder of fit, a checkpoint"),
        (["{exported}", "--images", "{pictures}", "--ckpt_path", "last"], "is no run folder of fit"),
        (["{exported}", "--images", "{pictures}", "--data.root", "x"], "option '--data.root' is not known"),
        (
            ["{exported}", "--images", "{pictures}", "--out", "{run}"],
            "it is a run folder; give one for these predictions",
        ),
        (["{search}", "--images", "{pictures}"], "has no trained weights: give a checkpoint or the run folder of fit"),
        (["{exported}", "--images", "{pictures}", "--launch", "slurm"], "--images is not for --launch"),
        (["--out", "x", "--images", "{pictures}"], "the network is missing: predict RUN --images DIR"),
        (["{exported}", "--image", "{pictures}"], "is no run folder of fit"),
        (["--image", "{pictures}"], "did you mean '--images'?"),
    ],
)
def test_wrong_usage(arguments, text, exported, pictures, tmp_path, capsys):
    places = {name: tmp_path / name for name in ("nowhere", "empty", "search", "run")}
    for name in ("empty", "search", "run"):
        places[name].mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    (tmp_path / "run" / "meta.json").write_text('{"command": "fit"}')
    (tmp_path / "search" / "found.json").write_text(json.dumps({"arch": TINY, "space": "mbv2"}))
    places |= {"exported": exported, "pictures": pictures}
    code, _, err = call(capsys, "predict", *(argument.format(**places) for argument in arguments))
    assert code == 2
    assert text in err
    assert "--untrained" not in err


def test_a_network_that_knows_nothing_of_its_images(pictures, tmp_path, capsys):
    record = NetworkRecord(space="mbv2", arch=TINY, num_classes=3, input_size=[3, 16, 16])
    save_exported(tmp_path / "model.pt", record, record.build().state_dict())
    code, _, err = call(capsys, "predict", tmp_path / "model.pt", "--images", pictures)
    assert code == 2
    assert "does not say how its images are normalised" in err


def test_hidden_files_and_links_that_lead_back_are_no_pictures(pictures):
    (pictures / ".thumbnails").mkdir()
    (pictures / "2" / "again").symlink_to(pictures)
    for name in (".thumbnails/x.png", "._0 a.png", "B.JPG"):
        shutil.copy(pictures / "0" / "deep, er" / "0 a.png", pictures / name)
    assert find_pictures(str(pictures))[1] == ["B.JPG", *(f"{i}/deep, er/{i} a.png" for i in range(3))]


@pytest.mark.slow
def test_from_a_folder_of_pictures_to_names_for_new_ones(tmp_path, capsys):
    """fit, test, predict, export to all formats, and predict with each of them, without the training's images."""
    root = tmp_path / "own pictures"
    for number, name in enumerate(NAMES):
        for i in range(20):
            save_picture(root / "train" / name / f"{i}.png", number, i)
        for i in range(4):
            save_picture(root / "test" / name / f"no {i}.png", number, 100 + i)
    run = tmp_path / "run"
    options = ["--data", "ImageFolder", "--data.root", root, "--data.image_size", 16, "--data.batch_size", 8]
    options += ["--model.arch", TINY, "--model.optimizer.lr", 0.05, "--model.optimizer.lr_batch_size", "null"]
    options += ["--model.schedule.warmup_epochs", 0, "--trainer.max_epochs", 5, "--trainer.accelerator", "cpu"]
    assert call(capsys, "fit", *options, "--out", run)[0] == 0
    code, out, _ = call(capsys, "test", run)
    assert code == 0
    assert "test/top1 100.00 %" in out
    code, out, _ = call(capsys, "predict", run)
    assert code == 0
    assert "right: 100.00 % of 12 images" in out
    tested = table(run / "predictions.csv")
    assert [row["file"] for row in tested[:2]] == [f"test/{NAMES[0]}/no {i}.png" for i in range(2)]
    assert [row["label_name"] for row in tested] == [name for name in NAMES for _ in range(4)]

    code, *_ = call(capsys, "export", run, "--format", "state_dict,safetensors,onnx")
    assert code == 0
    import onnx

    model = onnx.load(run / "export" / "model.onnx")
    assert json.loads({one.key: one.value for one in model.metadata_props}["class_names"]) == list(NAMES)

    images = tmp_path / "new"
    shutil.move(root / "test", images)
    shutil.rmtree(root)  # what follows needs no image of the training
    for source in (run, run / "checkpoints" / "best.ckpt", run / "export", run / "export" / "model.safetensors"):
        code, out, err = call(capsys, "predict", source, "--images", images, "--out", tmp_path / "out")
        assert code == 0, err
        rows = table(tmp_path / "out" / "predictions.csv")
        assert [f"test/{row['file']}" for row in rows] == [row["file"] for row in tested]
        assert [row["predicted_name"] for row in rows] == [row["label_name"] for row in tested]
        for row, before in zip(rows, tested, strict=True):
            assert float(row["probability"]) == pytest.approx(float(before["probability"]), abs=1e-5)
            assert row["top2"] == before["top2"]

"""The command label: tables that are continued, refused, cut into shards, and taken as an oracle."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from small_labels import ARCHS, DATA, MODEL, label, rows_of

from vkdnw_pl import cli
from vkdnw_pl.commands.label import _split
from vkdnw_pl.commands.merge import MergeOptions, merge
from vkdnw_pl.errors import UsageError
from vkdnw_pl.labels.folder import LabelFolder
from vkdnw_pl.labels.plan import LabelOptions, plan_labels
from vkdnw_pl.oracles import find_oracle, load_oracle
from vkdnw_pl.runs.folder import differences


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished table."""
    out = tmp_path_factory.mktemp("label") / "whole"
    assert label(out) == 0
    return out


def test_tables(whole):
    header, *rows = rows_of(whole)
    assert header == "arch,seed,group,macs,params,val,test,epochs,status,reason"
    assert [row.split(",")[:3] for row in rows] == [[arch, seed, "given"] for arch in ARCHS for seed in "12"]
    table = (whole / "accuracies.csv").read_text().splitlines()
    assert table[0] == "arch,synthetic,synthetic_std,synthetic_seed1,synthetic_seed2"
    for line, *of_arch in zip(table[1:], rows[::2], rows[1::2], strict=True):
        values = [float(row.split(",")[6]) for row in of_arch]
        assert [float(cell) for cell in line.split(",")[3:]] == pytest.approx(values, abs=5e-5)
        assert float(line.split(",")[1]) == pytest.approx(sum(values) / 2, abs=5e-5)
    assert (whole / "figures/accuracy_and_macs.png").is_file()
    assert not (whole / "rows").exists()
    assert json.loads((whole / "meta.json").read_text())["status"] == "finished"


def test_the_table_is_an_oracle_that_knows_its_networks(whole):
    for name in (str(whole), str(whole / "accuracies.csv")):
        oracle = load_oracle(name)
        assert oracle.archs == ARCHS
        assert oracle.split == {"synthetic": "test"}
        assert oracle.network("synthetic") == {
            **MODEL["network"], "num_classes": 4, "image_size": 8, "in_channels": 3
        }  # fmt: skip
    with pytest.raises(ValueError, match="holds accuracies of nb201, which say nothing about mbv2"):
        find_oracle(str(whole), space="mbv2")


def test_what_was_cut_is_continued(whole, tmp_path):
    out = tmp_path / "out"
    folder = LabelFolder(out)
    label(out, archs=ARCHS[:1])
    lines = (out / "labels.csv").read_text().splitlines(keepends=True)
    with pytest.raises(UsageError, match=r"archs \(there: 1 of digest .*, now: 3 of digest"):
        label(out)
    # As a kill leaves it: the journal of the first row, and half of the next.
    meta = json.loads((whole / "meta.json").read_text())
    folder.journals.mkdir()
    without_group = [",".join(cells[:2] + cells[3:]) for cells in (line.split(",") for line in lines)]
    (folder.journals / "0-0.csv").write_text("".join(without_group[:2]) + without_group[2][:20])
    folder.meta.write_text(json.dumps({**meta, "status": "running"}))
    folder.scores.unlink()
    assert label(out) == 0
    assert rows_of(out) == rows_of(whole)
    assert json.loads(folder.meta.read_text())["runs"][-1]["rows_made"] == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trainer": {"max_epochs": 2}}, r"trainer.max_epochs \(there: 1, now: 2\)"),
        ({"seeds": 1}, r"seeds \(there: \[1, 2\], now: \[1\]\)"),
        ({"model": {**MODEL, "label_smoothing": 0.1}}, r"model.label_smoothing \(there: null, now: 0.1\)"),
        ({"data": {**DATA, "init_args": {**DATA["init_args"], "signal": 0.5}}}, r"data.signal|data.init_args.signal"),
    ],
)
def test_other_settings_are_refused_by_their_names(whole, options, said):
    with pytest.raises(UsageError, match=said):
        label(whole, **options)


def test_shards_make_the_same_table(whole, tmp_path, capsys):
    shards = [tmp_path / str(i) for i in range(2)]
    for i, shard in enumerate(shards):
        assert label(shard, shard=f"{i}/2") == 0
    assert len(rows_of(shards[0])) == 1 + 4
    assert merge(MergeOptions(shards=[str(shard) for shard in shards], out=str(tmp_path / "merged"))) == 0
    assert rows_of(tmp_path / "merged") == rows_of(whole)
    assert (tmp_path / "merged" / "accuracies.csv").read_bytes() == (whole / "accuracies.csv").read_bytes()
    with pytest.raises(ValueError, match=r"2 of 6 rows are missing \(not given: shard 1/2\)"):
        merge(MergeOptions(shards=[str(shards[0])], out=str(tmp_path / "part")))


def test_failed_trainings_have_no_place_in_the_table(tmp_path, capsys):
    out = tmp_path / "out"
    archs = [ARCHS[0], "timm:test_vit"]  # which is not for images of 8 pixels
    assert label(out, archs=archs, seeds=1) == 1
    assert "FAILED rows: 1 of 2" in capsys.readouterr().out
    assert rows_of(out)[2].startswith("timm:test_vit,1,timm,,,,,,failed,")
    assert (out / "accuracies.csv").read_text().splitlines()[0] == "arch,synthetic,synthetic_seed1"
    assert len((out / "accuracies.csv").read_text().splitlines()) == 2
    assert label(out, archs=archs, seeds=1, retry_failed=True) == 1
    assert json.loads((out / "meta.json").read_text())["runs"][-1]["rows_made"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"archs": ""}, "archs is missing"),
        ({"archs": "random:0"}, "give random:N with N from 1"),
        ({"archs": "timm:mobilenetv9"}, "timm has no model 'mobilenetv9'"),
        ({"archs_seed": 3}, "archs_seed=3 has no use"),
        ({"max_macs": "5M"}, "max_macs='5M' has no use without archs=random:N"),
        ({"seeds": 2**32}, "a training takes seeds up to"),
        ({"trainer": {"max_epochs": -1}}, "trainer.max_epochs=-1 is not allowed"),
        ({"trainer": {"max_epochs": 1, "max_steps": 5}}, "trainer.max_steps=5 has no use"),
        ({"trainer": {"max_epochs": 1, "devices": 4}}, "trainer.devices=4 is not allowed"),
        (
            {"trainer": {"max_epochs": 1, "callbacks": [{"class_path": "pytorch_lightning.callbacks.EarlyStopping"}]}},
            "EarlyStopping is not allowed",
        ),
        ({"model": {**MODEL, "weights": "x.ckpt"}}, "model.weights='x.ckpt' is not allowed"),
        ({"model": {}, "archs": "sample:2"}, "of which space"),
        ({"dataset": "a,b"}, "names a column"),
        ({"shard": "5/9"}, "is empty: there are only 3"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        label(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_ones_own_images_are_known_by_what_they_are(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "photos" / name / f"{number}.png")

    def record(root, batch_size=2):
        options = {"root": str(root), "image_size": 8, "batch_size": batch_size}
        data = {"class_path": "vkdnw_pl.data.ImageFolder", "init_args": options}
        recipe = {"model": MODEL, "data": data, "trainer": {"max_epochs": 1}}
        return plan_labels(LabelOptions(archs=ARCHS, dataset="photos", device="cpu", **recipe)).record

    before = record(tmp_path / "photos")
    assert record((tmp_path / "photos").rename(tmp_path / "moved")) == before
    (tmp_path / "moved" / "cat" / "3.png").rename(tmp_path / "moved" / "dog" / "4.png")
    assert [text.partition(" ")[0] for text in differences(before, record(tmp_path / "moved"))] == ["data.images"]
    with pytest.raises(ValueError, match="there are only 6 training images"):
        record(tmp_path / "moved", batch_size=7)
    (tmp_path / "moved" / "dog" / "torn.png").write_text("x")
    with pytest.raises(ValueError, match=r"torn\.png' cannot be read"):
        record(tmp_path / "moved")


def test_what_no_network_can_be_trained_with_ends_the_command(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"model.schedule.warmup_epochs=3 is not allowed"):
        label(out, model={**MODEL, "schedule": {"warmup_epochs": 3.0}})
    assert label(out, archs=ARCHS[:1], seeds=1) == 0  # nothing stands in the way


def test_options_of_label_and_of_the_recipe_are_told_apart(tmp_path):
    config = tmp_path / "both.yaml"
    config.write_text(yaml.safe_dump({"archs": "unique", "max_macs": None, "model": {"init": "keep"}}))
    names = ["archs", "seeds", "out", "max_macs", "macs_tolerance"]
    arguments = [
        "--config",
        str(config),
        "--data",
        "Digits",
        "--data.batch_size=5",
        "--seeds",
        "1..3",
        "--macs-tolerance=0.2",
    ]
    own, recipe = _split(arguments, names, tmp_path)
    assert own == ["--archs=unique", "--max_macs=null", "--seeds", "1..3", "--macs-tolerance=0.2"]
    assert recipe[0::2] == ["--config", "--data", "--data.batch_size=5"]
    assert yaml.safe_load(Path(recipe[1]).read_text()) == {"model": {"init": "keep"}}
    with pytest.raises(UsageError, match="option '--seed' is not known; did you mean '--seeds'"):
        _split(["--seed", "1"], names, tmp_path)
    with pytest.raises(UsageError, match="--seeds says"):
        _split(["--seed_everything", "1"], names, tmp_path)


@pytest.mark.slow
def test_the_command_line_gives_what_fit_gives(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = ["--model.network", "{channels: 4, cells: 1}", "--data", "Synthetic", "--data.input_size", "[3, 8, 8]"]
    recipe += [
        "--data.train_size",
        "64",
        "--data.val_size",
        "40",
        "--trainer.max_epochs",
        "2",
        "--trainer.accelerator",
        "cpu",
    ]
    recipe += ["--model.init", "zennas", "--model.mixup", "0.2", "--data.batch_size", "16"]
    archs = ["--archs", f"{ARCHS[0]},timm:test_byobnet", "--model.space", "nb201"]
    assert cli.main(["label", *recipe, *archs, "--seeds", "3", "--out", "table", "--workers", "1"]) == 0
    assert cli.main(["label", "--config", "table/config.yaml"]) == 0  # finished
    assert "2 of 2 rows are there already" in capsys.readouterr().out
    rows = [row.split(",") for row in rows_of(tmp_path / "table")[1:]]
    recipe[:2] = []
    for row, arch in zip(
        rows,
        (["--model.arch", ARCHS[0], "--model.network", "{channels: 4, cells: 1}"], ["--model.arch", "test_byobnet"]),
    ):
        assert cli.main(["fit", *recipe, *arch, "--seed_everything", "3", "--out", f"fit{arch[1][:4].strip('|')}"]) == 0
        results = json.loads((tmp_path / f"fit{arch[1][:4].strip('|')}" / "results.json").read_text())
        assert [float(row[5]), float(row[6])] == pytest.approx([results["val/top1"], results["test/top1"]], abs=1e-4)


def test_help_comes_without_the_recipes_parser(capsys):
    assert cli.main(["label", "--help"]) == 0
    assert "found.json" in capsys.readouterr().out
    assert {"model", "data", "trainer"} <= set(LabelOptions.__dataclass_fields__)

import hashlib
from pathlib import Path

import pytest

from vkdnw_pl.oracles import find_oracle, load_oracle
from vkdnw_pl.oracles.timm_results import FILES, Weights, choose_weights

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "timm" / "results-imagenet.csv"
HEADER = "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation\n"


def line(model, size, top1):
    return f"{model},{size},{top1},{100 - top1},99.0,1.0,'1,014.45',0.9,bicubic\n".replace("'", '"')


TABLE = HEADER + "".join(
    [
        line("big.in22k_ft_in1k", 224, 90.0),
        line("small.ra4_e3600_r224_in1k", 256, 79.0),
        line("small.ra4_e3600_r224_in1k", 224, 78.0),
        line("small.ra_in1k", 224, 77.0),
        line("small.fb_dist_in1k", 224, 79.5),
        line("taught.fb_dist_in1k", 224, 75.0),
        line("old", 192, 60.0),
        line("test_tiny.r160_in1k", 160, 40.0),
    ]
)
CHOSEN = {"small": 78.0, "taught": 75.0, "old": 60.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VKDNW_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    (path / "results-imagenet.csv").write_text(TABLE)
    return path


def load(path):
    return load_oracle("timm", path, "timm_zoo")


@pytest.mark.parametrize(
    ("tag", "level"),
    [
        ("in1k", "plain"),
        ("", "plain"),
        ("ra4_e3600_r224_in1k", "plain"),
        ("ft_in1k", "plain"),
        ("mae_in1k_ft_in1k", "plain"),
        ("fb_dist_in1k", "taught"),
        ("goog_distilled_in1k", "taught"),
        ("usi_in1k", "taught"),
        ("ssld_in1k", "taught"),
        ("ssld_stage2_ft_in1k", "other data"),
        ("augreg_in21k_ft_in1k", "other data"),
        ("ns_jft_in1k", "other data"),
        ("fb_swsl_ig1b_ft_in1k", "other data"),
        ("clip_laion2b_augreg_ft_in1k", "other data"),
        ("dist_in22k_ft_in1k", "other data"),
    ],
)
def test_how_weights_were_trained(tag, level):
    assert Weights("a", tag, 224, 80.0).level == level


class TestRule:
    def rows(self, *rows):
        return [Weights("a", *row) for row in rows]

    def test_no_teacher_before_a_better_taught(self):
        plain, taught = self.rows(("in1k", 224, 70.0), ("dist_in1k", 224, 80.0))
        assert choose_weights([taught, plain]) is plain
        assert choose_weights([taught]) is taught

    def test_nearest_to_224_pixels_and_of_two_the_smaller(self):
        near, far, small, large = self.rows(
            ("a1_in1k", 240, 70.0), ("a1_in1k", 288, 75.0), ("b_in1k", 192, 60.0), ("b_in1k", 256, 61.0)
        )
        assert choose_weights([far, near]) is near
        assert choose_weights([large, small]) is small

    def test_then_the_highest_accuracy(self):
        low, high = self.rows(("a_in1k", 224, 70.0), ("b_in1k", 224, 71.0))
        assert choose_weights([low, high]) is choose_weights([high, low]) is high

    def test_none_where_all_saw_other_images(self):
        assert choose_weights(self.rows(("in21k_ft_in1k", 224, 80.0))) is None


class TestLoading:
    @pytest.mark.parametrize("given", ["file", "folder", "clone"])
    def test_file_folder_or_clone(self, folder, given):
        path = {"file": folder / "results-imagenet.csv", "folder": folder, "clone": folder.parent}[given]
        oracle = load(path)
        assert (oracle.name, oracle.space) == ("timm", "timm_zoo")
        assert oracle.accuracies("imagenet") == CHOSEN
        assert oracle.split == {"imagenet": "val"}
        assert "3 architectures" in oracle.description
        assert "1 of them with a teacher" in oracle.description

    def test_other_labels_and_images_are_data_sets(self, folder):
        other = TABLE.replace(",78.0,", ",81.5,").replace(",77.0,", ",99.0,")
        (folder / "results-imagenet-real.csv").write_text(other)
        oracle = load(folder)
        assert oracle.datasets == ("imagenet", "imagenet-real")
        assert oracle.accuracies("imagenet-real") == {**CHOSEN, "small": 81.5}, "of the same weights"

    def test_tables_of_different_versions_are_refused(self, folder):
        (folder / "results-imagenet-real.csv").write_text(HEADER + line("old", 192, 61.0))
        with pytest.raises(ValueError, match=r"real\.csv lacks 2 of 3 models, the first is small\.ra4.*download timm"):
            load(folder)

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ("arch,imagenet\nsmall,70\n", r"line 1: there is no column 'model'.*oracle=FILE\.csv"),
            (HEADER, "holds no model"),
            (HEADER + "small.in1k,224,\n", "line 2 has 3 cells, the first line has"),
            (
                HEADER + line("small.in1k", 224, 70.0).replace(",70.0,", ",x,"),
                "line 2, column 'top1': 'x' is not a number",
            ),
            (HEADER + line("small.in1k", 22.4, 70.0), "line 2, column 'img_size': '22.4' is not a whole number"),
            (HEADER + line("small.in1k", 224, 170.0), r"line 2: 'small.in1k' with top1=170.0"),
            (HEADER + line("small.in21k", 224, 70.0), "holds no model that was trained on ImageNet-1k alone"),
        ],
    )
    def test_damaged(self, folder, content, text):
        (folder / "results-imagenet.csv").write_text(content)
        with pytest.raises(ValueError, match=text):
            load(folder)

    def test_not_there(self, tmp_path, cache):
        with pytest.raises(ValueError, match=r"needs results-imagenet\.csv .*cache/timm; .*download timm$"):
            load(None)
        with pytest.raises(ValueError, match=rf"download timm --out {tmp_path}$"):
            load(tmp_path)

    def test_cache(self, folder, cache):
        assert find_oracle("auto", space="timm_zoo") is None
        with pytest.raises(ValueError, match=r"'auto' finds no known accuracies of timm_zoo; .*download timm"):
            load_oracle("auto", space="timm_zoo")
        cache.mkdir()
        folder.rename(cache / "timm")
        assert load_oracle("auto", space="timm_zoo").name == "timm"
        assert load_oracle("timm", space="timm_zoo").name == "timm"


@pytest.mark.skipif(not REAL.is_file(), reason="timm's results table is absent")
class TestRealTable:
    def test_is_the_one_that_download_fetches(self):
        assert hashlib.sha256(REAL.read_bytes()).hexdigest() == FILES["imagenet"].sha256

    def test_every_architecture_has_one_accuracy(self):
        oracle = load(REAL)
        known = oracle.accuracies("imagenet")
        assert len(known) > 700
        assert not any("." in arch or arch.startswith("test_") for arch in known)
        # Rows of the table.
        assert known["mobilenetv3_large_100"] == 76.310, "not 77.920, which saw ImageNet-21k, nor 77.182 at 256 pixels"
        assert known["tf_efficientnet_b0"] == 77.100, "not 78.680, which saw JFT"
        assert known["levit_128"] == 78.486, "only known with a teacher"
        assert known["xcit_nano_12_p16_224"] == 69.982, "not 72.318 with a teacher"

    def test_names_are_models_of_timm(self):
        import timm

        models = set(timm.list_models())
        assert sum(arch in models for arch in load(REAL).archs) > 700

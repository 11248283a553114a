"""`score`, `merge` and `evaluate` on the spaces beyond NAS-Bench-201."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from small_runs import evaluate, merge, score, scores_of

from vkdnw_pl.errors import UsageError
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.spaces import SPACES

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "timm" / "results-imagenet.csv"
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "timm_zoo.yaml"
ZOO = ["test_resnet", "test_efficientnet", "test_byobnet", "test_vit"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDNW_CACHE", str(tmp_path / "cache"))


def run(out, **options):
    return score(
        **{
            "proxies": ["macs", "aleph"],
            "batch_size": 2,
            "network": {"image_size": 32},
            "device": "cpu",
            "workers": 1,
            "out": str(out),
            "progress": False,
            **options,
        }
    )


class TestMBV2:
    def test_a_sample_is_ranked_without_metrics(self, tmp_path, capsys):
        assert run(tmp_path / "run", space="mbv2", archs="sample:6") == 0
        out = capsys.readouterr().out
        assert "no metrics: no accuracies of this space are known here" in out
        assert "accuracies:" not in out
        made = sorted(path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("."))
        assert made == ["archs.txt", "config.yaml", "meta.json", "ranking.csv", "scores.csv"]
        rows = read_table(tmp_path / "run" / "scores.csv").rows
        for row in rows:
            assert row.values["macs"] == SPACES["mbv2"].cost(row.arch, image_size=32).macs
        with (tmp_path / "run" / "ranking.csv").open(newline="") as file:
            ranks = {line["arch"]: float(line["macs"]) for line in csv.DictReader(file)}
        best = max(rows, key=lambda row: row.values["macs"]).arch
        assert ranks[best] == 1.0
        (shown,) = [line for line in out.splitlines() if line.startswith("  1  ")]
        assert shown == f"  1  {best}"

    @pytest.mark.slow
    def test_shards_merge_and_evaluate_without_metrics(self, tmp_path, capsys):
        for part in (0, 1):
            assert run(tmp_path / f"part{part}", space="mbv2", archs="sample:4", shard=f"{part}/2") == 0
        assert run(tmp_path / "whole", space="mbv2", archs="sample:4") == 0
        assert merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "merged") == 0
        for name in ("ranking.csv", "archs.txt"):
            assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert scores_of(tmp_path / "merged") == scores_of(tmp_path / "whole")
        assert not (tmp_path / "merged" / "metrics.csv").exists()
        with pytest.raises(UsageError, match="holds scores of the space mbv2, but space='nb201'; give --space mbv2"):
            evaluate(str(tmp_path / "whole"))
        capsys.readouterr()
        assert evaluate(str(tmp_path / "whole"), space="mbv2", rankings=["aleph"]) == 0
        assert "best by aleph (of 4):" in capsys.readouterr().out

    def test_found_networks_with_their_options(self, tmp_path):
        found = tmp_path / "found.json"
        content = {"space": "mbv2", "arch": "mbv2_initial", "network": {"use_se": True, "num_classes": 7}}
        found.write_text(json.dumps({**content, "top": [{"arch": "mbv2_initial"}, {"arch": "params_450m"}]}))
        assert run(tmp_path / "run", space="mbv2", archs=str(found), proxies=["params"]) == 0
        rows = read_table(tmp_path / "run" / "scores.csv").rows
        assert [row.arch for row in rows] == [SPACES["mbv2"].validate(name) for name in ("mbv2_initial", "params_450m")]
        whole = {"image_size": 32, "use_se": True, "num_classes": 7}
        assert rows[0].values["params"] == SPACES["mbv2"].cost("mbv2_initial", **whole).num_params
        assert json.loads((tmp_path / "run" / "meta.json").read_text())["settings"]["network"] == {
            **{"use_se": True, "num_classes": 7, "image_size": 32},
        }
        own = {"image_size": 32, "use_se": False}
        assert run(tmp_path / "own", space="mbv2", archs=str(found), proxies=["params"], network=own) == 0
        (first, _) = read_table(tmp_path / "own" / "scores.csv").rows
        assert first.values["params"] == SPACES["mbv2"].cost("mbv2_initial", **own, num_classes=7).num_params

    def test_limit(self, tmp_path):
        assert run(tmp_path / "run", space="mbv2", archs="sample:5", max_macs=2.0e8, proxies=["params"]) == 0
        archs = (tmp_path / "run" / "archs.txt").read_text().splitlines()
        assert len(archs) == 5
        assert all(SPACES["mbv2"].cost(arch).macs <= 2e8 for arch in archs)

    @pytest.mark.parametrize(
        ("more", "text"),
        [
            (
                {},
                r"archs='auto', the default, names no architectures of space='mbv2'; give --archs sample:100 .*mbv2_480m",
            ),
            ({"archs": "digits"}, r"archs='digits' is the embedded table of nb201 and has no use with space='mbv2'"),
            ({"archs": "oracle"}, r"'auto' finds no known accuracies of mbv2; for mbv2 give a CSV file"),
            ({"archs": "all"}, r"mbv2 is unbounded"),
            ({"archs": "mbv2_480"}, r"did you mean 'mbv2_480m'"),
            ({"archs": "sample:3", "oracle": "digits"}, r"holds accuracies of nb201, which say nothing about mbv2"),
            ({"archs": "sample:3", "network": {"se": True}}, r"network option 'se' is not known.*use_se, bn_eps"),
            ({"archs": "sample:3", "network": {"in_channels": 1}}, r"in_channels=1 does not fit"),
            ({"archs": "sample:3", "max_macs": 1000.0}, r"brought nothing new.*a larger max_macs"),
        ],
    )
    def test_wrong_options(self, tmp_path, more, text):
        with pytest.raises(UsageError, match=text):
            run(tmp_path / "run", space="mbv2", **more)
        assert not (tmp_path / "run").exists()


class TestTimmZoo:
    @pytest.fixture
    def oracle(self, tmp_path):
        path = tmp_path / "mine.csv"
        path.write_text("arch,made_up\n" + "".join(f"{name},{50 + i}\n" for i, name in enumerate(reversed(ZOO))))
        return str(path)

    def test_metrics_and_rows(self, tmp_path, oracle):
        options = {"space": "timm_zoo", "archs": ",".join(ZOO), "oracle": oracle}
        assert run(tmp_path / "run", **options, proxies=["vkdnw", "aleph", "macs", "snip"]) == 0
        rows = read_table(tmp_path / "run" / "scores.csv").rows
        assert [row.arch for row in rows] == ZOO
        # 1000 classes; digits have 10 of them.
        assert all(0 < row.values["vkdnw"] <= 2.1973 and row.values["snip"] > 0 and row.seconds > 0 for row in rows)
        with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
            assert {(row["dataset"], row["n"]) for row in csv.DictReader(file)} == {("made_up", "4")}
        assert run(tmp_path / "run", **options, proxies=["vkdnw", "aleph", "macs", "snip"]) == 0, "is there already"
        config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert score(**{**config, "out": str(tmp_path / "again")}) == 0
        assert scores_of(tmp_path / "again") == scores_of(tmp_path / "run")

    def test_a_model_that_fails_is_a_row(self, tmp_path, capsys):
        """Its attention works on blocks, which 32 pixels do not divide into."""
        archs = ["halonet26t", "test_resnet"]
        assert run(tmp_path / "run", space="timm_zoo", archs=archs) == 1
        failed, other = read_table(tmp_path / "run" / "scores.csv").rows
        assert failed.failed
        assert failed.reason
        assert not other.failed
        assert "FAILED rows: 1 of 2" in capsys.readouterr().out

    def test_a_slow_engine_is_not_worth_a_warning(self, tmp_path, recwarn):
        assert run(tmp_path / "run", space="timm_zoo", archs=["test_vit"], proxies=["vkdnw"]) == 0
        assert not [warning for warning in recwarn if "Jacobian" in str(warning.message)]

    def test_networks_have_no_pretrained_weights(self, tmp_path, monkeypatch):
        import timm.models

        asked = []
        monkeypatch.setattr(timm.models._builder, "load_pretrained", lambda *args, **kwargs: asked.append(args))
        assert run(tmp_path / "run", space="timm_zoo", archs=["test_resnet"], proxies=["params"]) == 0
        assert not asked

    @pytest.mark.parametrize(
        ("more", "text"),
        [
            (
                {},
                r"no architectures of space='timm_zoo'; give --archs with model names, as in 'mobilenetv2_100,resnet18'",
            ),
            ({"archs": "oracle"}, r"for timm_zoo give timm or a CSV file.*download timm"),
            ({"archs": ["resnet18"], "oracle": "timm"}, r"needs results-imagenet.csv"),
            ({"archs": ["resnet18"], "oracle": "nb201"}, r"say nothing about timm_zoo"),
            ({"archs": ["resnet18"], "network": {"imagesize": 3}}, r"did you mean 'image_size'"),
            ({"archs": ["resnet18"], "network": {"image_size": 0}}, r"image_size=0 is not allowed"),
        ],
    )
    def test_wrong_options(self, tmp_path, more, text):
        with pytest.raises(UsageError, match=text):
            run(tmp_path / "run", space="timm_zoo", **more)
        assert not (tmp_path / "run").exists()

    @pytest.mark.skipif(not REAL.is_file(), reason="timm's results table is absent")
    def test_models_of_the_results_table(self, tmp_path, monkeypatch):
        few = ["mobilenetv3_small_050", "lcnet_050", "resnet18"]
        whole = load_oracle("timm", REAL, "timm_zoo")
        monkeypatch.setattr(type(whole), "archs", property(lambda self: [*few, "model_of_a_later_timm"]))
        options = {"space": "timm_zoo", "archs": "oracle", "oracle": "timm", "oracle_path": str(REAL)}
        assert run(tmp_path / "run", **options, max_macs=1.0e9) == 0
        assert (tmp_path / "run" / "archs.txt").read_text().splitlines() == few[:2]
        with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
            assert {(row["dataset"], row["split"], row["n"]) for row in csv.DictReader(file)} == {
                ("imagenet", "val", "2")
            }


def test_the_configuration_names_models_of_timm():
    options = yaml.safe_load(CONFIG.read_text())
    archs, space = options["archs"], SPACES["timm_zoo"]
    assert len(set(archs)) == len(archs) >= 60
    assert [space.architecture(arch) for arch in archs] == archs
    if REAL.is_file():
        assert set(archs) <= set(load_oracle("timm", REAL, "timm_zoo").archs)

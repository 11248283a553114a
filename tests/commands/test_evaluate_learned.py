"""`evaluate --models`: model-driven rankings trained, kept, and used on other architectures."""

import csv
import io
from contextlib import redirect_stdout

import pytest
from small_runs import evaluate, run

from vkdnw_pl.errors import UsageError

pytestmark = pytest.mark.slow  # the parts: tests/scoring/test_learned_evaluation.py, tests/ranking/test_learned.py


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("learned")
    run(base / "scores", archs="sample:40", seeds=[1, 2])
    return base


def options(folders, **more):
    return {"scores": str(folders / "scores"), "oracle": str(folders / "oracle.csv"), **more}


@pytest.fixture(scope="module")
def trained(folders):
    """Folder with models, and what was printed."""
    printed = io.StringIO()
    models = ["random_forest", "gradient_boosting"]
    with redirect_stdout(printed):
        assert evaluate(**options(folders, models=models, train_size=15, out=str(folders / "trained"))) == 0
    return folders / "trained", printed.getvalue()


def test_models_are_trained_measured_and_kept(trained):
    out, printed = trained
    with (out / "learned_metrics.csv").open(newline="") as file:
        rows = {row["ranking"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"vkdnw_m", "vkdnw_m:gradient_boosting", "graf", "graf:gradient_boosting"}
    assert {row["train_size"] for row in rows.values()} == {"15"}
    assert float(rows["vkdnw_m"]["spearman"]) > 0.5  # accuracies of the made-up oracle grow with MACs
    kept = {path.name for path in (out / "models").iterdir()}
    assert kept == {
        f"{name}-made_up.skops" for name in ("vkdnw_m", "vkdnw_m-gradient_boosting", "graf", "graf-gradient_boosting")
    }
    assert [path.name for path in (out / "figures").glob("importances_*.png")] == [
        "importances_vkdnw_m-graf_made_up.png"
    ]
    assert "vkdnw_m" in printed


def test_a_kept_model_ranks_other_architectures(folders, trained):
    run(folders / "others", archs="sample:60")  # 20 of them were not there in training
    model = trained[0] / "models" / "vkdnw_m-made_up.skops"
    out = folders / "used"
    more = {"scores": str(folders / "others"), "models": [str(model)], "out": str(out)}
    assert evaluate(**options(folders, **more)) == 0
    with (out / "metrics.csv").open(newline="") as file:
        rows = {row["ranking"]: row for row in csv.DictReader(file)}
    assert float(rows["vkdnw_m_made_up"]["spearman"]) > 0.5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"models": ["random_forst"]}, "models='random_forst' is not known; did you mean 'random_forest'"),
        ({"models": ["random_forest", "random_forest"]}, "one repeats"),
        ({"models": ["missing.skops"]}, "missing.skops"),
        ({"models": ["random_forest"], "oracle": None}, "oracle=null is not allowed with models to train"),
        ({"train_size": 5}, "train_size=5 has no use without models"),
        ({"models": ["random_forest"], "train_size": 1000}, "train_size=1000 is not allowed"),
        ({"models": ["random_forest"], "paper": "table3"}, "have no use with paper='table3'"),
        ({"models": ["a.skops"], "paper": "table1"}, "'a.skops' has no use with paper='table1'"),
    ],
)
def test_wrong_options(folders, more, words):
    with pytest.raises(UsageError, match=words):
        evaluate(**options(folders, out=str(folders / "wrong"), **more))


def test_a_pickle_is_no_model(folders):
    (folders / "bad.skops").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UsageError, match=r"bad\.skops"):
        evaluate(**options(folders, models=[str(folders / "bad.skops")], out=str(folders / "wrong")))

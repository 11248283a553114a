from pathlib import Path

import pytest

from vkdnw_pl.metrics.functional import kendall_tau
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.spaces import SPACES

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "vit"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the tables of ViT-Bench-101 are not here")

# (number, least, greatest, KT with #params for 100 classes), of an independent reading of the files.
FACTS = {
    ("autoformer", "c100_base"): (100, 67.69, 69.91, -0.32),
    ("autoformer", "flower_base"): (100, 51.99, 54.98, 0.31),
    ("autoformer", "chaoyang_base"): (100, 80.69, 83.22, 0.05),
    ("autoformer", "imagenet_super"): (100, 70.75, 75.51, -0.22),
    ("autoformer", "imagenet_super_2"): (100, 70.84, 75.49, 0.05),
    ("autoformer", "c100_kd"): (200, 75.08, 78.80, None),
    ("autoformer", "flower_kd"): (200, 48.56, 69.59, None),
    ("autoformer", "chaoyang_kd"): (200, 83.59, 86.40, None),
    ("pit", "c100_base"): (100, 50.73, 76.54, 0.72),
    ("pit", "c100_kd"): (100, 50.15, 78.96, 0.82),
    ("pit", "flower_base"): (100, 36.48, 61.46, 0.77),
    ("pit", "flower_kd"): (100, 36.05, 72.06, 0.87),
    ("pit", "chaoyang_base"): (100, 78.21, 85.09, 0.55),
    ("pit", "chaoyang_kd"): (100, 77.70, 85.18, 0.56),
}


@pytest.mark.parametrize("name", ["autoformer", "pit"])
def test_the_published_tables(name):
    oracle, space = load_oracle(name, REAL, name), SPACES[name]
    assert set(oracle.datasets) == {dataset for of, dataset in FACTS if of == name}
    for dataset in oracle.datasets:
        number, least, greatest, tau = FACTS[name, dataset]
        table = oracle.accuracies(dataset)
        assert (len(table), round(min(table.values()), 2), round(max(table.values()), 2)) == (number, least, greatest)
        assert all(space.validate(arch) == arch for arch in table)
        if tau is not None:
            params = [float(space.cost(arch, num_classes=100).num_params) for arch in table]
            assert float(kendall_tau(params, list(table.values()))) == pytest.approx(tau, abs=0.01)
    assert oracle.network("chaoyang_kd") == {"num_classes": 4}


def test_what_must_be_known_before_trusting_them_is_said():
    doubts = load_oracle("autoformer", REAL, "autoformer").doubts()
    assert len(doubts) == 4  # what is the same of five data sets is said once
    assert any(text.startswith("imagenet_super_2: the values look unrelated") for text in doubts)
    assert any("flower_kd" in text and "48.56" in text for text in doubts)
    (text,) = load_oracle("pit", REAL, "pit").doubts()
    assert text.startswith("c100_base, c100_kd, flower_base")
    assert "trained once" in text


def test_auto_finds_them_where_they_are():
    assert load_oracle("auto", REAL, "pit").name == "pit"
    assert load_oracle("auto", REAL, "autoformer").name == "autoformer"

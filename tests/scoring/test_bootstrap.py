import numpy as np
import pytest

from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.runs.table import ScoreRow, ScoreTable
from vkdnw_pl.scoring.bootstrap import bootstrap_intervals, kendall_resamples


def make_sample(scores, accuracies, seeds=(1,)):
    """`scores`: column -> one array per seed."""
    archs = [f"arch{i}" for i in range(len(accuracies))]
    rows = [
        ScoreRow(arch, seed, {name: float(values[s][i]) for name, values in scores.items()})
        for i, arch in enumerate(archs)
        for s, seed in enumerate(seeds)
    ]
    known = Oracle("mine", "made up", {"one": "test"}, {"one": dict(zip(archs, accuracies))})
    return ScoreTable(tuple(scores), rows), known


@pytest.mark.parametrize("places", [1.0, 2.5])
def test_bootstrap_equals_resampling_by_hand(places):
    rng = np.random.default_rng(0)
    n, resamples = 40, 120
    accuracies = rng.integers(40, 60, n).astype(float)  # with ties, as the scores
    scores = [np.round(accuracies + rng.normal(0, 6, n)) for _ in range(2)]
    found = bootstrap_intervals(
        *make_sample({"a": scores}, accuracies, (1, 2)), {"a": ("a",)}, 7, resamples, seed=3, places=places
    )
    draws = np.random.default_rng(3).multinomial(n, np.full(n, 1 / n), size=resamples)
    by_hand = {"kendall": [], "spearman": [], "ndcg": []}
    for draw in draws:
        chosen = np.repeat(np.arange(n), draw)
        for name, metric in (
            ("kendall", kendall_tau),
            ("spearman", spearman_rho),
            ("ndcg", lambda x, y: ndcg(x, y, top_k=7, places=places)),
        ):
            by_hand[name].append(np.mean([float(metric(score[chosen], accuracies[chosen])) for score in scores]))
    for name, values in by_hand.items():
        assert found["a", "one"][name] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-9)


def test_bootstrap_covers_the_value_of_all_networks():
    """Of 40 samples of a population, nearly all intervals hold the population's value."""
    rng = np.random.default_rng(1)
    accuracies = rng.normal(60, 8, 6000)
    score = accuracies + rng.normal(0, 8, 6000)
    true = {"kendall": float(kendall_tau(score, accuracies)), "spearman": float(spearman_rho(score, accuracies))}
    hits = dict.fromkeys(true, 0)
    widths = []
    for _ in range(40):
        chosen = rng.choice(6000, 300, replace=False)
        table = make_sample({"a": [score[chosen]]}, accuracies[chosen])
        found = bootstrap_intervals(*table, {"a": ("a",)}, 50, 200)["a", "one"]
        widths.append(found["kendall"][1] - found["kendall"][0])
        for name, value in true.items():
            low, high = found[name]
            hits[name] += low <= value <= high
    assert all(34 <= count <= 40 for count in hits.values())
    assert 0.05 < np.mean(widths) < 0.15


def test_a_perfect_ranking_has_no_spread():
    accuracies = np.arange(20.0, 50.0)
    found = bootstrap_intervals(*make_sample({"a": [accuracies]}, accuracies), {"a": ("a",)}, 5, 100)
    for low, high in found["a", "one"].values():
        assert (low, high) == pytest.approx((1.0, 1.0))


def test_bootstrap_is_reproducible_and_depends_on_the_seed():
    rng = np.random.default_rng(2)
    accuracies = rng.normal(60, 8, 50)
    given = make_sample({"a": [accuracies + rng.normal(0, 8, 50)]}, accuracies)
    first, again, other = (bootstrap_intervals(*given, {"a": ("a",)}, 5, 100, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_undefined_has_no_interval():
    accuracies = np.arange(20.0, 50.0)
    found = bootstrap_intervals(*make_sample({"a": [np.ones(30)]}, accuracies), {"a": ("a",)}, 5, 100)["a", "one"]
    assert found == {}
    table, _ = make_sample({"a": [np.ones(30)]}, accuracies)
    nothing = Oracle("mine", "made up", {"one": "test"}, {"one": {"arch0": 1.0}})
    assert bootstrap_intervals(table, nothing, {"a": ("a",)}) == {}


def test_large_samples_take_fewer_resamples_of_all_pairs():
    assert kendall_resamples(1000, 1000) == 1000
    assert kendall_resamples(4000, 1000) == 312
    assert kendall_resamples(9000, 1000) == 100


@pytest.mark.parametrize(("options", "text"), [({"resamples": 50}, "bootstrap=50"), ({"level": 1.0}, "level=1.0")])
def test_options_that_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        bootstrap_intervals(*make_sample({"a": [[1.0, 2.0]]}, [1.0, 2.0]), {"a": ("a",)}, **options)

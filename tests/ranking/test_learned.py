"""Model-driven rankings: what they learn, that they see only their training part, and that files cannot run code."""

import io
import math
import pickle
import random
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from vkdnw_pl.ranking import learned, rank_agreement
from vkdnw_pl.ranking.graph_features import PAPER_COLUMNS
from vkdnw_pl.ranking.learned import (
    LEARNED_ROWS,
    MODELS,
    Features,
    LearnedRanking,
    available_rows,
    default_train_size,
    make_features,
    split,
)
from vkdnw_pl.spaces import NB201

SPACE = NB201()
DECILES = [f"vkdnw_decile_{i}" for i in range(1, 10)]
VKDNW_M = [*DECILES, "vkdnw", "aleph", "macs"]


def some_archs(n, seed=0):
    rng = random.Random(seed)
    archs = {SPACE.sample(rng, unique=True) for _ in range(3 * n)}
    return sorted(archs)[:n]


def made_up(n=200, seed=0):
    """Columns of `vkdnw_m` and accuracies that follow some of them."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(size=n) for name in VKDNW_M}
    accuracy = 70 + 5 * columns["aleph"] + 3 * columns["vkdnw"] + columns["macs"] ** 2 + 0.3 * rng.normal(size=n)
    return some_archs(n), columns, accuracy


@pytest.fixture(scope="module")
def trained():
    archs, columns, accuracy = made_up()
    features = make_features("vkdnw_m", columns, archs, "nb201")
    return features, accuracy, LearnedRanking.fit(features, accuracy, dataset="mine")


def test_features_of_the_paper():
    assert {row: len(s.required) + len(s.optional) for row, s in LEARNED_ROWS.items()} == {
        "vkdnw_m": 12,
        "vkdnw_zcs_m": 25,
        "vkdnw_zcs_graf_m": 25,
        "graf": 0,
    }
    everything = {name: np.zeros(3) for row in LEARNED_ROWS.values() for name in (*row.required, *row.optional)}
    archs = some_archs(3)
    assert [len(make_features(row, everything, archs, "nb201").names) for row in LEARNED_ROWS] == [12, 25, 185, 160]
    assert "vkdnw" not in make_features("vkdnw_zcs_m", everything, archs, "nb201").names
    assert make_features("graf", {}, archs, "nb201").names == PAPER_COLUMNS


@pytest.mark.parametrize(("n", "seed"), [(9445, 1), (15625, 5)])
def test_split_sizes_and_draws_of_the_reference_code(n, seed):
    train, test = split(n, 1024, seed)
    assert (len(train), len(test)) == (1024, n - 1024)
    assert sorted([*train, *test]) == list(range(n))
    expected = train_test_split(range(n), test_size=1 - 1024 / n, random_state=seed)
    assert [train.tolist(), test.tolist()] == expected


def test_default_train_size():
    assert [default_train_size(n) for n in (15625, 9445, 2048, 2047, 1000, 5)] == [1024, 1024, 1024, 1023, 500, 2]


@pytest.mark.parametrize("model", MODELS)
def test_learns_and_is_measured_on_the_rest(model):
    archs, columns, accuracy = made_up()
    features = make_features("vkdnw_m", columns, archs, "nb201")
    one = LearnedRanking.fit(features, accuracy, model, seed=3, train_size=120, top_k=10)
    assert (one.train_size, one.num_archs, one.metrics["ndcg_k"]) == (120, 200, 10)
    assert one.metrics["kendall"] > 0.6
    test = split(200, 120, 3)[1]
    predicted = one.predict({name: values[test] for name, values in columns.items()}, [archs[i] for i in test])
    assert {**rank_agreement(predicted, accuracy[test], 10, "average"), "ndcg_k": 10} == one.metrics
    shares = one.impurity_importances()
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "aleph"


def test_is_the_pipeline_of_the_paper(trained):
    features, accuracy, one = trained
    train, test = split(200, 100, 1)
    paper = Pipeline(
        [("scaler", StandardScaler()), ("forest", RandomForestRegressor(n_estimators=100, random_state=1))]
    )
    paper.fit(features.values[train], accuracy[train])
    ours = one.predict(dict(zip(features.names, features.values.T)), features.archs)
    # Values outside of the training part's range are brought to its ends, which no tree can tell.
    np.testing.assert_array_equal(ours[test], paper.predict(features.values[test]))


@pytest.mark.parametrize("model", MODELS)
def test_equal_seeds_give_equal_models_and_others_do_not(model):
    archs, columns, accuracy = made_up(60)
    features = make_features("vkdnw_m", columns, archs, "nb201")
    first, again, other = (LearnedRanking.fit(features, accuracy, model, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.predict(columns, archs), again.predict(columns, archs))
    assert first.metrics == again.metrics
    assert first.metrics != other.metrics


@pytest.mark.parametrize("model", MODELS)
def test_shuffled_accuracies_cannot_be_ranked(model):
    # If a test architecture leaked into the training, its accuracy would be known by heart.
    archs = some_archs(900)
    features = make_features("graf", {}, archs, "nb201")
    noise = 50 + np.random.default_rng(0).normal(size=900)
    one = LearnedRanking.fit(features, noise, model, train_size=500)
    assert abs(one.metrics["kendall"]) < 0.1  # three standard errors of 400 independent pairs
    assert abs(one.metrics["spearman"]) < 0.15


def test_the_test_part_has_no_influence(trained):
    features, accuracy, one = trained
    test = split(200, 100, 1)[1]
    other_accuracy, other_values = accuracy.copy(), features.values.copy()
    other_accuracy[test] = 1.0
    other_values[test] = np.nan
    other = LearnedRanking.fit(replace(features, values=other_values), other_accuracy)
    archs, columns, _ = made_up(80, seed=5)
    np.testing.assert_array_equal(other.predict(columns, archs), one.predict(columns, archs))
    np.testing.assert_array_equal(other.low, one.low)


def test_values_that_are_not_finite_count_as_the_ends_of_the_training_part(trained):
    features, _, one = trained
    archs, columns, _ = made_up(4, seed=2)
    place = one.features.index("aleph")
    predict = lambda values: one.predict({**columns, "aleph": values}, archs)  # noqa: E731
    ends = predict([one.low[place], one.low[place], one.high[place], one.high[place]])
    np.testing.assert_array_equal(predict([math.nan, -math.inf, math.inf, 1e300]), ends)
    train = split(200, 100, 1)[0]
    holes = features.values.copy()
    holes[train[:3], place] = [math.nan, math.inf, -math.inf]
    filled = holes.copy()
    rest = holes[train[3:], place]
    filled[train[:3], place] = [rest.min(), rest.max(), rest.min()]
    accuracy = made_up()[2]
    with_holes = LearnedRanking.fit(replace(features, values=holes), accuracy)
    by_hand = LearnedRanking.fit(replace(features, values=filled), accuracy)
    np.testing.assert_array_equal(with_holes.predict(columns, archs), by_hand.predict(columns, archs))


def test_constant_accuracies_have_no_correlation(trained):
    features = trained[0]
    metrics = LearnedRanking.fit(features, np.full(200, 90.0)).metrics
    assert metrics["kendall"] is metrics["spearman"] is None


def test_available_rows():
    assert available_rows([], "nb201") == ["graf"]
    assert available_rows([], "mbv2") == []
    assert available_rows(VKDNW_M, "nb201") == ["vkdnw_m", "graf"]
    assert available_rows([*VKDNW_M, "zico"], "nb201") == list(LEARNED_ROWS)
    assert available_rows([*VKDNW_M, "zico"], "mbv2") == ["vkdnw_m", "vkdnw_zcs_m"]


def test_missing_columns_are_said_or_refused():
    archs, columns, _ = made_up(5)
    features = make_features("vkdnw_zcs_m", {**columns, "zico": np.zeros(5)}, archs, "nb201")
    assert features.names == (*DECILES, "aleph", "macs", "zico")
    assert len(features.missing) == 13
    assert "zico" not in features.missing
    del columns["vkdnw_decile_4"], columns["macs"]
    with pytest.raises(ValueError, match=r"'vkdnw_m' needs columns .*: vkdnw_decile_4, macs$"):
        make_features("vkdnw_m", columns, archs, "nb201")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": "vkdnw_n"}, r"row='vkdnw_n' is not known; did you mean 'vkdnw_m'\?"),
        ({"row": "vkdnw_zcs_m"}, "at least one of the columns expressivity, .*; the score table has none"),
        ({"row": "graf", "space": "mbv2"}, "exist for the space 'nb201' and not for 'mbv2'"),
        ({"archs": [CHAIN := some_archs(1)[0]] * 2 + some_archs(3)}, "of the 5 architectures repeat another"),
        ({"archs": some_archs(4)}, r"has shape \(5,\); give one value for each of 4 archs"),
        ({"row": "graf", "archs": ["nonsense"]}, "nonsense"),
    ],
)
def test_mistakes_in_features_are_named(change, message):
    archs, columns, _ = made_up(5)
    options = {"row": "vkdnw_m", "columns": columns, "archs": archs, "space": "nb201", **change}
    with pytest.raises(ValueError, match=message):
        make_features(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "random_forrest"}, r"did you mean 'random_forest'\?"),
        ({"seed": -1}, "seed=-1"),
        ({"train_size": 199}, "train_size=199 is not allowed for 200 architectures: give a whole number from 2 to 198"),
        ({"train_size": 0.5}, "train_size=0.5"),
        ({"accuracy": np.zeros(3)}, r"accuracy has shape \(3,\)"),
        ({"accuracy": np.full(200, np.nan)}, "one finite value per architecture"),
        ({"ties": "avarage"}, "did you mean 'average'"),
    ],
)
def test_mistakes_in_training_are_named(trained, change, message):
    options = {"accuracy": trained[1], **change}
    with pytest.raises(ValueError, match=message):
        LearnedRanking.fit(trained[0], **options)


def test_training_needs_values_and_architectures(trained):
    features = trained[0]
    values = features.values.copy()
    values[:, 10] = math.nan
    with pytest.raises(ValueError, match="no finite value among the 100 training architectures: aleph"):
        LearnedRanking.fit(replace(features, values=values), trained[1])
    three = Features("graf", "nb201", features.archs[:3], features.names, features.values[:3])
    with pytest.raises(ValueError, match="there must be at least 4 architectures"):
        LearnedRanking.fit(three, [1.0, 2.0, 3.0])


def test_prediction_refuses_a_table_that_lacks_a_column(trained):
    archs, columns, _ = made_up(5)
    assert trained[2].predict({name: [] for name in columns}, []).shape == (0,)
    columns["alepf"] = columns.pop("aleph")
    with pytest.raises(ValueError, match=r"lacks columns .*vkdnw_m, random_forest.*: aleph; did you mean 'alepf'\?"):
        trained[2].predict(columns, archs)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("row", ["vkdnw_m", "graf"])
def test_save_and_load(tmp_path, model, row):
    archs, columns, accuracy = made_up(40)
    features = make_features(row, columns, archs, "nb201")
    one = LearnedRanking.fit(features, accuracy, model, dataset="mine")
    path = one.save(tmp_path / "new" / "model.skops")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = LearnedRanking.load(path)
    new = some_archs(30, seed=9)
    columns = made_up(30, seed=9)[1]
    np.testing.assert_array_equal(again.predict(columns, new), one.predict(columns, new))
    for name in set(vars(one)) - {"pipeline", "low", "high"}:
        assert getattr(again, name) == getattr(one, name), name
    assert again.impurity_importances() == one.impurity_importances()
    assert {"vkdnw_pl", "scikit-learn", "numpy", "skops"} == set(again.versions)
    assert [p.name for p in path.parent.iterdir()] == ["model.skops"]


class Hostile:
    """Runs when a pickle with it is read."""

    ran = False

    def __reduce__(self):
        return (setattr, (Hostile, "ran", True))


class Foreign:
    """Runs when it is built from a file."""

    ran = False

    def __setstate__(self, state):
        Foreign.ran = True


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="pickle and joblib files are never read"):
        LearnedRanking.load(path)
    assert not Hostile.ran


def test_foreign_types_are_refused_before_anything_is_built(tmp_path, trained):
    foreign = Foreign()
    foreign.x = 1
    payload = {"format": learned._FORMAT, **vars(trained[2]), "row": foreign}
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(payload))
    with pytest.raises(ValueError, match=r"is refused: it holds types that no model of vkdnw_pl has.*Foreign"):
        LearnedRanking.load(path)
    assert not Foreign.ran
    skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    assert Foreign.ran  # what was refused would have run


def test_functions_hidden_in_the_file_are_refused(tmp_path, trained):
    path = trained[2].save(tmp_path / "model.skops")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["schema.json"] = parts["schema.json"].replace(b'"StandardScaler"', b'"Popen"')
    parts["schema.json"] = parts["schema.json"].replace(b'"sklearn.preprocessing._data"', b'"subprocess"')
    assert b"subprocess" in parts["schema.json"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=r"is refused: .*subprocess\.Popen"):
        LearnedRanking.load(path)


def forge(path, one, **changes):
    path.write_bytes(skops.io.dumps({"format": learned._FORMAT, **vars(one), **changes}))
    return path


def test_damaged_files_are_named(tmp_path, trained):
    one = trained[2]
    path = tmp_path / "model.skops"
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        LearnedRanking.load(path)
    whole = one.save(path).read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(ValueError, match=r"model\.skops"):
        LearnedRanking.load(path)
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    path.write_bytes(empty.getvalue())
    with pytest.raises(ValueError, match="cannot be read as a model"):
        LearnedRanking.load(path)
    path.write_bytes(skops.io.dumps([1, 2]))
    with pytest.raises(ValueError, match="its format is not"):
        LearnedRanking.load(path)
    with pytest.raises(ValueError, match="it has the parts"):
        LearnedRanking.load(forge(path, one, more=1))


def test_files_that_hold_names_as_lists_are_read(tmp_path, trained):
    """As earlier versions wrote them."""
    model = LearnedRanking.load(forge(tmp_path / "model.skops", trained[2], features=VKDNW_M, missing=["zico"]))
    assert (model.features, model.missing) == (tuple(VKDNW_M), ("zico",))


def test_another_version_of_scikit_learn_is_said(tmp_path, trained):
    path = forge(tmp_path / "model.skops", trained[2], versions={"scikit-learn": "1.4.0"})
    with pytest.warns(UserWarning, match="written with scikit-learn 1.4.0"):
        LearnedRanking.load(path)

"""Model-driven rankings: a regression from proxies and graph features to accuracies, trained on some architectures.

Source: VKDNW Section 5 and its notebook: a random forest of 100 trees on standardised features, trained on 1,024
architectures and judged on all others. Here the split and the forest are seeded both.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vkdnw_pl._version import __version__
from vkdnw_pl.errors import check_choice, is_whole, nearest
from vkdnw_pl.ranking import graph_features as graf
from vkdnw_pl.ranking import rank_agreement
from vkdnw_pl.runs.files import replaced

Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.intp]]

MODELS = ("random_forest", "extra_trees", "gradient_boosting")
"""``random_forest`` is the paper's. The others see the same features and the same split."""

PAPER_TRAIN_SIZE = 1024

_DECILES = tuple(f"vkdnw_decile_{i}" for i in range(1, 10))
_COMPANIONS = (
    *("expressivity", "progressivity", "trainability", "jacov", "grad_sign", "zico", "zen", "grad_norm", "naswot"),
    *("synflow", "snip", "grasp", "ntk_condition", "linear_regions"),
)
_FORMAT = "vkdnw_pl learned ranking 1"
# What skops does not accept by itself but our models hold: the trees' arrays, compiled, without code.
_TRUSTED = ["sklearn.tree._tree.Tree"]


@dataclass(frozen=True)
class FeatureSet:
    """What a model-driven ranking is made from."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Columns that may be missing, which the result then says; at least one must be there."""
    graf: bool = False
    """Whether `graph_features.PAPER_COLUMNS` are added; only for the space ``nb201``."""


LEARNED_ROWS: dict[str, FeatureSet] = {
    "vkdnw_m": FeatureSet((*_DECILES, "vkdnw", "aleph", "macs")),
    "vkdnw_zcs_m": FeatureSet((*_DECILES, "aleph", "macs"), _COMPANIONS),
    "vkdnw_zcs_graf_m": FeatureSet((*_DECILES, "aleph", "macs"), _COMPANIONS, graf=True),
    "graf": FeatureSet(graf=True),
}
"""The model-driven rows of the paper's Table 1 with its lists of features (the two ZCS rows have no entropy there)."""


@dataclass(frozen=True)
class Features:
    """Features of n architectures."""

    row: str
    space: str
    archs: tuple[str, ...]
    names: tuple[str, ...]
    values: Array
    """Shape (n, number of names); a value that is not finite is allowed."""
    missing: tuple[str, ...] = ()
    """Optional columns of the row that are not among the names."""


def available_rows(columns: Collection[str], space: str) -> list[str]:
    """Names of the rows that ``columns`` (those with values) and the space allow."""
    return [row for row in LEARNED_ROWS if _problem(row, columns, space) is None]


def make_features(row: str, columns: Mapping[str, Any], archs: Sequence[str], space: str) -> Features:
    """Collect the features of a row of `LEARNED_ROWS` for n different architectures, from columns (n,) by name."""
    check_choice("row", row, LEARNED_ROWS)
    if problem := _problem(row, columns, space):
        raise ValueError(problem)
    if len(set(archs)) < len(archs):
        # It could be on both sides of the split.
        raise ValueError(f"archs: {len(archs) - len(set(archs))} of the {len(archs)} architectures repeat another")
    feature_set = LEARNED_ROWS[row]
    names = (*feature_set.required, *(name for name in feature_set.optional if name in columns))
    names += graf.PAPER_COLUMNS if feature_set.graf else ()
    missing = tuple(name for name in feature_set.optional if name not in columns)
    return Features(row, space, tuple(archs), names, _matrix(names, columns, archs), missing)


def default_train_size(n: int) -> int:
    """The paper's 1,024 where at least as many architectures are left to judge the ranking on, else half of ``n``."""
    return PAPER_TRAIN_SIZE if n >= 2 * PAPER_TRAIN_SIZE else n // 2


def split(n: int, train_size: int, seed: int) -> tuple[Indices, Indices]:
    """Places of the architectures to train on and of the others, as scikit-learn's ``train_test_split`` draws them."""
    from sklearn.model_selection import train_test_split

    if not is_whole(train_size, 2) or train_size > n - 2:
        allowed = f"give a whole number from 2 to {n - 2}" if n >= 4 else "there must be at least 4 architectures"
        raise ValueError(f"train_size={train_size!r} is not allowed for {n} architectures: {allowed}")
    train, test = train_test_split(np.arange(n), train_size=train_size, test_size=n - train_size, random_state=seed)
    return train, test


class Regression(NamedTuple):
    """A fitted model of `MODELS`, and what it makes of features (n, k) that are not finite or beyond its training.

    There, ``inf`` counts as the largest and ``-inf`` and NaN (no value) as the smallest value of the training part; a feature
    without any finite value in training has no part.
    """

    pipeline: Any
    """A scikit-learn pipeline of a scaler and a regression."""
    low: Array
    high: Array
    """Smallest and largest finite value of each feature in training, shape (k,)."""

    @classmethod
    def fit(cls, values: Array, target: Array, pipeline: Any) -> Regression:
        """Train what `make_pipeline` made on features (n, k) and numbers to predict (n,)."""
        finite = np.isfinite(values)
        low = np.where(finite, values, np.inf).min(axis=0)
        high = np.where(finite, values, -np.inf).max(axis=0)
        low, high = np.where(low <= high, low, 0.0), np.where(low <= high, high, 0.0)
        pipeline.fit(_fill(values, low, high), target)
        return cls(pipeline, low, high)

    def predict(self, values: Array) -> Array:
        """Predictions (n,)."""
        return np.asarray(self.pipeline.predict(_fill(values, self.low, self.high)), dtype=np.float64)


@dataclass(frozen=True)
class LearnedRanking:
    """A trained model with all that is needed to use it on new architectures; see `fit` and `load`."""

    row: str
    model: str
    space: str
    features: tuple[str, ...]
    missing: tuple[str, ...]
    low: Array
    high: Array
    """Smallest and largest finite value of each feature in training, shape (number of features,)."""
    seed: int
    train_size: int
    num_archs: int
    """All, of which the training part was drawn; the metrics are about the ``num_archs - train_size`` left."""
    dataset: str
    metrics: dict[str, float | None]
    """``kendall``, ``spearman``, ``ndcg`` (None: undefined) and ``ndcg_k``, on the part that was not trained on."""
    versions: dict[str, str]
    pipeline: Any
    """A fitted scikit-learn pipeline of a scaler and a regression."""

    @property
    def name(self) -> str:
        """Name of the ranking: that of the row, and of the model where it is not the paper's random forest."""
        return self.row if self.model == MODELS[0] else f"{self.row}:{self.model}"

    @classmethod
    def fit(
        cls,
        features: Features,
        accuracy: Any,
        model: str = "random_forest",
        seed: int = 1,
        train_size: int | None = None,
        dataset: str = "",
        top_k: int | None = 1000,
        ties: str = "average",
        places: float = 1.0,
    ) -> LearnedRanking:
        """Train on a random part of the n architectures and measure on the others, which do not influence the model.

        In a feature, ``inf`` counts as the largest and ``-inf`` and NaN (no value) as the smallest value of the
        training part. ``accuracy`` (n,) is in percent, or anything else of which more is better (then ``top_k`` is
        None: no nDCG); ``dataset`` says of what, for the record; ``seed`` is that of the split and of the model; for
        ``top_k``, ``ties`` and ``places`` see ``metrics.functional.ndcg``.
        """
        pipeline = make_pipeline(model, seed)
        accuracy, n = np.asarray(accuracy, dtype=np.float64), len(features.archs)
        if accuracy.shape != (n,) or not np.isfinite(accuracy).all():
            raise ValueError(f"accuracy has shape {accuracy.shape}; give one finite value per architecture, ({n},)")
        train_size = default_train_size(n) if train_size is None else train_size
        train, test = split(n, train_size, seed)
        finite = np.isfinite(features.values[train])
        if empty := [name for name, column in zip(features.names, finite.T) if not column.any()]:
            raise ValueError(f"no finite value among the {train_size} training architectures: {', '.join(empty)}")
        regression = Regression.fit(features.values[train], accuracy[train], pipeline)
        predicted = regression.predict(features.values[test])
        agreement = rank_agreement(predicted, accuracy[test], top_k, ties, places)
        return cls(
            row=features.row,
            model=model,
            space=features.space,
            features=features.names,
            missing=features.missing,
            low=regression.low,
            high=regression.high,
            seed=seed,
            train_size=train_size,
            num_archs=n,
            dataset=dataset,
            metrics={**agreement, "ndcg_k": None if top_k is None else min(top_k, round(len(test) * places))},
            versions={"vkdnw_pl": __version__, **{name: version(name) for name in ("scikit-learn", "numpy", "skops")}},
            pipeline=regression.pipeline,
        )

    def predict(self, columns: Mapping[str, Any], archs: Sequence[str]) -> Array:
        """Predict what the model was trained on, such as accuracies in percent (n,); more is better.

        Architectures are of the model's space; graph features are computed.

        ``columns`` (n,) are made with the settings of the table that the model was trained on.
        """
        missing = [name for name in self.features if name not in columns and name not in graf.COLUMNS]
        if missing:
            lacking = f"{', '.join(missing)}{nearest(missing[0], columns)}"
            raise ValueError(f"the table lacks columns of this model ({self.row}, {self.model}): {lacking}")
        if not len(archs):
            return np.zeros(0)
        return Regression(self.pipeline, self.low, self.high).predict(_matrix(self.features, columns, archs))

    def impurity_importances(self) -> dict[str, float]:
        """Feature -> its share of what the trees' splits explain; equal columns share one's at random."""
        return dict(zip(self.features, map(float, self.pipeline[-1].feature_importances_)))

    def save(self, path: str | Path) -> Path:
        """Write the model as a file of the ``skops`` format, in one step, and return its path."""
        import skops.io

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as draft:
            draft.write_bytes(skops.io.dumps({"format": _FORMAT, **vars(self)}, compression=zipfile.ZIP_DEFLATED))
        return path

    @classmethod
    def load(cls, path: str | Path) -> LearnedRanking:
        """Read a model that `save` wrote; a type that no such model holds is refused before anything of it is built."""
        parts = _read(Path(path))
        if set(parts) != {field.name for field in fields(cls)}:
            raise ValueError(f"{path} is not a model of vkdnw_pl: it has the parts {', '.join(map(str, parts))}")
        installed, written = version("scikit-learn"), parts["versions"].get("scikit-learn")
        if installed != written:
            text = f"{path} was written with scikit-learn {written}; with {installed} its predictions may differ"
            warnings.warn(text, stacklevel=2)
        return cls(**{**parts, "features": tuple(parts["features"]), "missing": tuple(parts["missing"])})


def _problem(row: str, columns: Collection[str], space: str) -> str | None:
    """Why a row cannot be made, or None."""
    feature_set = LEARNED_ROWS[row]
    missing = [name for name in feature_set.required if name not in columns]
    if missing:
        names = ", ".join(missing)
        return f"row={row!r} needs columns that the score table lacks, or that have no finite value: {names}"
    if feature_set.optional and not any(name in columns for name in feature_set.optional):
        names = ", ".join(feature_set.optional)
        return f"row={row!r} needs at least one of the columns {names}; the score table has none"
    if feature_set.graf and not graf.has_graph_features(space):
        return f"row={row!r} needs graph features, which exist for the space 'nb201' and not for {space!r}"
    return None


def _matrix(names: Sequence[str], columns: Mapping[str, Any], archs: Sequence[str]) -> Array:
    graph_columns: dict[str, Array] = {}
    if any(name in graf.COLUMNS for name in names):
        values, graph_names = graf.graph_features(archs)
        graph_columns = dict(zip(graph_names, values.T))
    arrays = []
    for name in names:
        array = np.asarray(graph_columns[name] if name in graph_columns else columns[name], dtype=np.float64)
        if array.shape != (len(archs),):
            raise ValueError(f"column {name!r} has shape {array.shape}; give one value for each of {len(archs)} archs")
        arrays.append(array)
    return np.stack(arrays, axis=1)


def _fill(values: Array, low: Array, high: Array) -> Array:
    """Bring every value into the range of the training part, whose ends no tree can tell from what is beyond them."""
    return np.clip(np.where(np.isnan(values), low, values), low, high)


def make_pipeline(model: str, seed: int) -> Any:
    """A scikit-learn pipeline of a scaler and a regression of `MODELS`, to be fitted."""
    check_choice("model", model, MODELS)
    if not is_whole(seed, 0) or seed >= 2**32:
        raise ValueError(f"seed={seed!r} is not allowed: give a whole number from 0 to 2^32 - 1")
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    regressors = {
        "random_forest": RandomForestRegressor(n_estimators=100, random_state=seed),
        "extra_trees": ExtraTreesRegressor(n_estimators=100, random_state=seed),
        # Usual values, not tuned: many small steps of shallow trees, each on random halves and thirds.
        "gradient_boosting": GradientBoostingRegressor(
            n_estimators=400, learning_rate=0.05, max_depth=4, subsample=0.5, max_features=0.3, random_state=seed
        ),
    }
    # The scaler changes nothing about trees; it belongs to the paper's pipeline.
    return Pipeline([("scaler", StandardScaler()), ("regressor", regressors[model])])


def _read(path: Path) -> dict[str, Any]:
    import skops.io

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if not data.startswith(b"PK"):
        raise ValueError(f"{path} is not a model of vkdnw_pl; pickle and joblib files are never read")
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - set(_TRUSTED))
        parts = None if unknown else skops.io.loads(data, trusted=_TRUSTED)
    except Exception as error:  # skops raises whatever its reading of a damaged file runs into
        raise ValueError(f"{path} cannot be read as a model: {type(error).__name__}: {error}") from None
    if unknown:
        raise ValueError(f"{path} is refused: it holds types that no model of vkdnw_pl has: {', '.join(unknown)}")
    if not isinstance(parts, dict) or parts.pop("format", None) != _FORMAT:
        raise ValueError(f"{path} is not a model of vkdnw_pl (or of another version): its format is not {_FORMAT!r}")
    return parts

"""Model-driven rankings: a regression from proxies and graph features to accuracies, trained on some architectures.

Source: VKDNW Section 5 and its reference notebook: features are standardised, a random forest of 100 trees is trained
on 1,024 architectures, and the ranking is judged on all others. Here the split and the forest are seeded both.
"""

from __future__ import annotations

import difflib
import io
import math
import os
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl._version import __version__
from vkdnw_pl.ranking import graph_features as graf

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


@dataclass(frozen=True)
class FeatureSet:
    """What a model-driven ranking is made from."""

    required: tuple[str, ...] = ()
    """Columns of the score table without which there is no such ranking."""
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
    """The name in `LEARNED_ROWS`."""
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
    """Collect the features of a row.

    Args:
        row: a name of `LEARNED_ROWS`.
        columns: columns of the score table by name, each of shape (n,).
        archs: n architectures, none of them twice.
        space: the name of their space.

    Raises:
        ValueError: if the row is unknown, needs a column that is not there, or has graph features that the space
            lacks; if an architecture repeats or is not of the space; or if a column has another length.
    """
    problem = _problem(row, columns, space)
    if problem is not None:
        raise ValueError(problem)
    wanted = LEARNED_ROWS[row]
    if len(set(archs)) < len(archs):
        # It could be on both sides of the split.
        raise ValueError(f"archs: {len(archs) - len(set(archs))} of the {len(archs)} architectures repeat another")
    names = (*wanted.required, *(name for name in wanted.optional if name in columns))
    names += graf.PAPER_COLUMNS if wanted.graf else ()
    missing = tuple(name for name in wanted.optional if name not in columns)
    return Features(row, space, tuple(archs), names, _matrix(names, columns, archs), missing)


def default_train_size(n: int) -> int:
    """The paper's 1,024 where at least as many architectures are left to judge the ranking on, else half of ``n``."""
    return PAPER_TRAIN_SIZE if n >= 2 * PAPER_TRAIN_SIZE else n // 2


def split(n: int, train_size: int, seed: int) -> tuple[Indices, Indices]:
    """Draw the architectures to train on; the others are for the metrics.

    Equal to scikit-learn's ``train_test_split`` with ``random_state=seed``, as in the reference code.

    Returns:
        Places of the training part, shape (train_size,), and of the rest, shape (n - train_size,).

    Raises:
        ValueError: if either part would have fewer than two architectures.
    """
    from sklearn.model_selection import train_test_split

    if isinstance(train_size, bool) or not isinstance(train_size, int) or not 2 <= train_size <= n - 2:
        allowed = f"give a whole number from 2 to {n - 2}" if n >= 4 else "there must be at least 4 architectures"
        raise ValueError(f"train_size={train_size!r} is not allowed for {n} architectures: {allowed}")
    train, test = train_test_split(np.arange(n), train_size=train_size, test_size=n - train_size, random_state=seed)
    return train, test


@dataclass(frozen=True)
class LearnedRanking:
    """A trained model with all that is needed to use it on new architectures; see `fit` and `load`."""

    row: str
    model: str
    space: str
    features: tuple[str, ...]
    """Names of the features, in the order of the model."""
    missing: tuple[str, ...]
    """Optional features of the row that were not there."""
    low: Array
    """Smallest finite value of each feature in training, shape (number of features,)."""
    high: Array
    """Largest finite value of each feature in training."""
    seed: int
    train_size: int
    num_archs: int
    """Architectures of which the training part was drawn; the metrics are about the ``num_archs - train_size`` left."""
    dataset: str
    metrics: dict[str, float | None]
    """``kendall``, ``spearman``, ``ndcg`` (None where undefined) and ``ndcg_k``, on the part that was not trained on."""
    versions: dict[str, str]
    """Versions of this package and of the libraries."""
    pipeline: Any
    """A fitted scikit-learn pipeline of a scaler and a regression."""

    @classmethod
    def fit(
        cls,
        features: Features,
        accuracy: Any,
        model: str = "random_forest",
        seed: int = 1,
        train_size: int | None = None,
        dataset: str = "",
        top_k: int = 1000,
        ties: str = "average",
        places: float = 1.0,
    ) -> LearnedRanking:
        """Train on a random part of the architectures and measure on the others.

        In a feature, ``inf`` counts as the largest and ``-inf`` and NaN (no value) as the smallest value of the
        training part. The others have no influence on the model.

        Args:
            features: of n architectures.
            accuracy: shape (n,), in percent.
            model: a name of `MODELS`.
            seed: of the split and of the model.
            train_size: how many to train on; None: see `default_train_size`.
            dataset: what the accuracies belong to; kept as a note.
            top_k: nDCG looks at this many from the top.
            ties: nDCG's rule for equal predictions, see ``metrics.functional.ndcg``.
            places: how many places each architecture takes in nDCG, see there.

        Raises:
            ValueError: if an option is not allowed, the shapes differ, an accuracy is not finite, or a feature has no
                finite value in the training part.
        """
        regressor = _make_model(model, seed)
        accuracy, n = np.asarray(accuracy, dtype=np.float64), len(features.archs)
        if accuracy.shape != (n,) or not np.isfinite(accuracy).all():
            raise ValueError(f"accuracy has shape {accuracy.shape}; give one finite value per architecture, ({n},)")
        train_size = default_train_size(n) if train_size is None else train_size
        train, test = split(n, train_size, seed)
        known = np.where(np.isfinite(features.values[train]), features.values[train], np.nan)
        empty = [name for name, column in zip(features.names, known.T) if np.isnan(column).all()]
        if empty:
            raise ValueError(f"no finite value among the {train_size} training architectures: {', '.join(empty)}")
        low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
        regressor.fit(_fill(features.values[train], low, high), accuracy[train])
        predicted = regressor.predict(_fill(features.values[test], low, high))
        return cls(
            row=features.row,
            model=model,
            space=features.space,
            features=features.names,
            missing=features.missing,
            low=low,
            high=high,
            seed=seed,
            train_size=train_size,
            num_archs=n,
            dataset=dataset,
            metrics=_measure(predicted, accuracy[test], top_k, ties, places),
            versions=_versions(),
            pipeline=regressor,
        )

    def predict(self, columns: Mapping[str, Any], archs: Sequence[str]) -> Array:
        """Predict the accuracies, in percent, of architectures of the model's space.

        Args:
            columns: columns of their score table by name, each of shape (n,), made with the settings of the table
                that the model was trained on; graph features are computed.
            archs: the n architectures.

        Returns:
            float64 of shape (n,).

        Raises:
            ValueError: if a column that the model uses is missing or has another length, or an architecture is not of
                the space.
        """
        lacking = [name for name in self.features if name not in columns and name not in graf.COLUMNS]
        if lacking:
            raise ValueError(
                f"the score table lacks {_count(lacking, 'column')} that this model ({self.row}, {self.model}) was "
                f"trained with: {', '.join(lacking)}{_nearest(lacking[0], columns)}; score the architectures with "
                "these proxies too"
            )
        if not len(archs):
            return np.zeros(0)
        return self._predict(_matrix(self.features, columns, archs))

    def impurity_importances(self) -> dict[str, float]:
        """Feature -> its share of what the splits of the trees explain in training; the shares add up to 1.

        Equal columns, of which the graph features have several, share at random what one of them alone would have.
        """
        return dict(zip(self.features, map(float, self.pipeline[-1].feature_importances_)))

    def permutation_importances(
        self, features: Features, accuracy: Any, repeats: int = 5, max_archs: int = 1000
    ) -> dict[str, float]:
        """Group of features -> how much Kendall's tau falls where its values are shuffled among architectures.

        Measured on architectures that were not trained on. Graph features are shuffled by family
        (``graf_op_count``, ...), every other feature is a group by itself.

        Args:
            features: those that the model was trained with, see `fit`.
            accuracy: as in `fit`.
            repeats: shuffles to take the mean of.
            max_archs: at most this many architectures are looked at.

        Raises:
            ValueError: if these are not the features of the training.
        """
        from vkdnw_pl.metrics.functional import kendall_tau

        if features.names != self.features or len(features.archs) != self.num_archs:
            raise ValueError(
                f"features: {len(features.names)} of {len(features.archs)} architectures are not those that the model "
                f"was trained with ({len(self.features)} of {self.num_archs})"
            )
        test = split(self.num_archs, self.train_size, self.seed)[1][:max_archs]
        values, target = features.values[test], np.asarray(accuracy, dtype=np.float64)[test]
        whole = float(kendall_tau(self._predict(values), target))
        groups: dict[str, list[int]] = {}
        for place, name in enumerate(self.features):
            groups.setdefault(feature_group(name), []).append(place)
        rng = np.random.default_rng(self.seed)
        falls = {}
        for group, places in groups.items():
            taus = []
            for _ in range(repeats):
                shuffled = values.copy()
                shuffled[:, places] = values[rng.permutation(len(values))][:, places]
                taus.append(float(kendall_tau(self._predict(shuffled), target)))
            falls[group] = whole - float(np.mean(taus))
        return falls

    def save(self, path: str | Path) -> Path:
        """Write the model as a file of the ``skops`` format, in one step, and return its path."""
        import skops.io

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = skops.io.dumps({"format": _FORMAT, **_payload(self)}, compression=zipfile.ZIP_DEFLATED)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            draft.write_bytes(data)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> LearnedRanking:
        """Read a model that `save` wrote. Nothing in the file is run, whoever made it.

        Warns where it was written with another version of scikit-learn.

        Raises:
            ValueError: if the file cannot be read, is of another kind (a pickle, say), holds a type that this package
                does not write, or does not fit together.
        """
        path = Path(path)
        payload = _read(path)
        for name, kind in _KINDS.items():
            if type(payload.get(name)) is not kind:
                raise ValueError(f"{path} is not a model of vkdnw_pl: {name} is {payload.get(name)!r:.80}")
        if set(payload) != {*_KINDS, "pipeline", "format"}:
            raise ValueError(f"{path} is not a model of vkdnw_pl: it has the parts {', '.join(map(str, payload))}")
        size = len(payload["features"])
        if payload["low"].shape != (size,) or payload["high"].shape != (size,):
            raise ValueError(f"{path} is damaged: it has {size} features and ranges of {payload['low'].shape}")
        unknown = [
            name for name in payload["features"] if str(name).startswith("graf_") and name not in graf.PAPER_COLUMNS
        ]
        if unknown:
            raise ValueError(f"{path} uses graph features that this version does not know: {', '.join(unknown)}")
        if payload["model"] not in MODELS:
            raise ValueError(f"{path} has the model {payload['model']!r} (known: {', '.join(MODELS)})")
        _check_pipeline(path, payload["pipeline"], payload["model"], size)
        here, there = _versions()["scikit-learn"], payload["versions"].get("scikit-learn")
        if here != there:
            warnings.warn(
                f"{path} was written with scikit-learn {there}; with {here} its predictions may differ", stacklevel=2
            )
        del payload["format"]
        payload["features"], payload["missing"] = tuple(payload["features"]), tuple(payload["missing"])
        return cls(**payload)

    def _predict(self, values: Array) -> Array:
        return np.asarray(self.pipeline.predict(_fill(values, self.low, self.high)), dtype=np.float64)


def feature_group(name: str) -> str:
    """The family of a graph feature, such as ``graf_op_count``; any other feature is its own group."""
    families = ("graf_op_count", "graf_min_path_len", "graf_max_op_on_path", "graf_node_degree")
    return next((family for family in families if name.startswith(family)), name)


_FORMAT = "vkdnw_pl learned ranking 1"
_KINDS: dict[str, type] = {
    **dict.fromkeys(("row", "model", "space", "dataset"), str),
    **dict.fromkeys(("features", "missing"), list),
    **dict.fromkeys(("low", "high"), np.ndarray),
    **dict.fromkeys(("seed", "train_size", "num_archs"), int),
    **dict.fromkeys(("metrics", "versions"), dict),
}
# What skops does not accept by itself but our models hold: the trees' arrays, compiled, without code. The structure of
# the trees is checked before they are used.
_TRUSTED = ["sklearn.tree._tree.Tree"]
_MAX_BYTES = 4 * 2**30


def _problem(row: str, columns: Collection[str], space: str) -> str | None:
    """Why a row cannot be made, or None."""
    if row not in LEARNED_ROWS:
        return f"row={row!r} is not known{_nearest(row, LEARNED_ROWS)} (known: {', '.join(LEARNED_ROWS)})"
    wanted = LEARNED_ROWS[row]
    lacking = [name for name in wanted.required if name not in columns]
    if lacking:
        return (
            f"row={row!r} needs {_count(lacking, 'column')} that the score table lacks, or that have no finite value: "
            f"{', '.join(lacking)}"
        )
    if wanted.optional and not any(name in columns for name in wanted.optional):
        return f"row={row!r} needs at least one of the columns {', '.join(wanted.optional)}; the score table has none"
    if wanted.graf and not graf.has_graph_features(space):
        return f"row={row!r} needs graph features, which exist for the space 'nb201' and not for {space!r}"
    return None


def _matrix(names: Sequence[str], columns: Mapping[str, Any], archs: Sequence[str]) -> Array:
    """Values of the features by column, shape (n, number of names)."""
    from_graph: dict[str, Array] = {}
    if any(name in graf.COLUMNS for name in names):
        values, graph_names = graf.graph_features(archs)
        from_graph = dict(zip(graph_names, values.T))
    chosen = []
    for name in names:
        column = np.asarray(from_graph[name] if name in from_graph else columns[name], dtype=np.float64)
        if column.shape != (len(archs),):
            raise ValueError(f"column {name!r} has shape {column.shape}; give one value for each of {len(archs)} archs")
        chosen.append(column)
    return np.stack(chosen, axis=1)


def _fill(values: Array, low: Array, high: Array) -> Array:
    """Bring every value into the range of the training part.

    No tree can tell a value outside of it from its nearest end, and none is too large for the trees' float32.
    """
    return np.clip(np.where(np.isnan(values), low, values), low, high)


def _make_model(model: str, seed: int) -> Any:
    if model not in MODELS:
        raise ValueError(f"model={model!r} is not known{_nearest(model, MODELS)} (known: {', '.join(MODELS)})")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} is not allowed: give a whole number from 0 to 2^32 - 1")
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    # The scaler changes nothing about trees; it belongs to the paper's pipeline.
    options: dict[str, Any] = {"n_estimators": 100}
    if model == "gradient_boosting":
        # Usual values, not tuned: many small steps of shallow trees, each on random halves and thirds.
        options = {"n_estimators": 400, "learning_rate": 0.05, "max_depth": 4, "subsample": 0.5, "max_features": 0.3}
    return Pipeline([("scaler", StandardScaler()), ("regressor", _class(model)(**options, random_state=seed))])


def _class(model: str) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor

    return dict(zip(MODELS, (RandomForestRegressor, ExtraTreesRegressor, GradientBoostingRegressor), strict=True))[
        model
    ]


def _measure(predicted: Array, target: Array, top_k: int, ties: str, places: float = 1.0) -> dict[str, float | None]:
    from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho

    values = {
        "kendall": float(kendall_tau(predicted, target)),
        "spearman": float(spearman_rho(predicted, target)),
        "ndcg": float(ndcg(predicted, target, top_k=top_k, ties=ties, places=places)),  # type: ignore[arg-type]
    }
    defined = {name: None if math.isnan(value) else value for name, value in values.items()}
    return {**defined, "ndcg_k": min(top_k, round(len(target) * places))}


def _payload(ranking: LearnedRanking) -> dict[str, Any]:
    values = dict(vars(ranking))
    return {**values, "features": list(ranking.features), "missing": list(ranking.missing)}


def _read(path: Path) -> dict[str, Any]:
    """Read the parts of a model file, refusing types that this package does not write."""
    import skops.io

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise ValueError(
            f"{path} is not a model of vkdnw_pl, which is a zip archive of the skops format; pickle and joblib files "
            "are never read, because reading one runs whatever it holds"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes, more than the {_MAX_BYTES:,} that are allowed")
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - set(_TRUSTED))
        payload = None if unknown else skops.io.loads(data, trusted=_TRUSTED)
    except Exception as error:  # skops raises whatever its reading of a damaged file runs into
        raise ValueError(f"{path} cannot be read as a model: {type(error).__name__}: {error}") from None
    if unknown:
        raise ValueError(
            f"{path} is refused: it holds {_count(unknown, 'type')} that no model of vkdnw_pl has, and reading it "
            f"could run foreign code: {', '.join(unknown)}"
        )
    if type(payload) is not dict or payload.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a model of vkdnw_pl (or of another version): its format is not {_FORMAT!r}")
    return payload


def _check_pipeline(path: Path, pipeline: Any, model: str, size: int) -> None:
    """Refuse a pipeline that `_make_model` does not make, or whose trees would lead outside of their arrays.

    The compiled prediction follows the trees without looking, so that a forged tree could read foreign memory.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

    try:
        steps = [step for _, step in pipeline.steps] if type(pipeline) is Pipeline else []
        if [type(step) for step in steps] != [StandardScaler, _class(model)]:
            raise ValueError(f"its pipeline is not a scaler and a {model}")
        if any(step.n_features_in_ != size for step in steps):
            raise ValueError(f"its pipeline is not for {size} features")
        trees = np.ravel(np.array(steps[1].estimators_, dtype=object))
        for estimator in trees:
            if type(estimator) not in (DecisionTreeRegressor, ExtraTreeRegressor):
                raise ValueError(f"it holds a {type(estimator).__name__} in place of a tree")
            if not _is_sound(estimator.tree_, size):
                raise ValueError("a tree does not fit together")
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _is_sound(tree: Any, size: int) -> bool:
    """Whether every node is a leaf or leads to two later nodes by one of the features."""
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    n = tree.node_count
    place = np.arange(n)
    leaf = (left == -1) & (right == -1)
    inner = (left > place) & (left < n) & (right > place) & (right < n) & (feature >= 0) & (feature < size)
    return n > 0 and tree.n_features == size and tree.value.shape == (n, 1, 1) and bool((leaf | inner).all())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"vkdnw_pl": __version__, **{name: version(name) for name in ("scikit-learn", "numpy", "skops")}}


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}" + ("" if len(names) == 1 else "s")

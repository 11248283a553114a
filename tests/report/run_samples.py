"""Small run folders, written as the commands write them."""

import json
from pathlib import Path

import yaml

from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.runs.table import ScoreRow, ScoreTable, write_table
from vkdnw_pl.scoring.evaluation import METRIC_COLUMNS
from vkdnw_pl.search.history import Candidate, HistoryFile

HOSTILE = "<script>window.__pwned=1</script>\"'><img src=x onerror=window.__pwned=1>|`javascript:` </style> {{ 7*7 }} \u202e\x07"
METRICS = [
    ("aleph", 0.6, 0.75, 0.8),
    ("vkdnw_agg", 0.75, 0.9, 0.95),
    ("macs", 0.5, 0.7, 0.85),
    ("zen", None, None, 0.2),
]
ENVIRONMENT = {
    "versions": {"vkdnw_pl": "0.1.0", "python": "3.11.7", "torch": "2.6.0"},
    "commit": "abc",
    "host": "laptop",
    "cpu": "a processor",
    "device": {"kind": "cpu"},
}


def archs(count: int) -> list[str]:
    """Architectures of the embedded accuracy table."""
    return load_oracle("digits").archs[:count]


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def record(folder: Path, command: str, config: dict, settings: dict, **meta: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    times = {"started_at": "2026-01-02T03:04:05+00:00", "finished_at": "2026-01-02T03:06:05+00:00", "elapsed_s": 120.5}
    content = {"format": 1, "command": command, "settings": settings, "environment": ENVIRONMENT, "runs": [times]}
    write_json(folder / "meta.json", content | meta)
    return folder


def metrics_text(rows: list[tuple], dataset: str = "digits", n: int = 40, seeds: int = 1) -> str:
    lines = [",".join(METRIC_COLUMNS)]
    for ranking, *values in rows:
        cells = ["" if value is None else repr(value) for value in values]
        std = ["" if value is None or seeds == 1 else "0.0125" for value in values]
        quoted = '"' + ranking.replace('"', '""') + '"'
        lines.append(",".join([quoted, dataset, "test", str(n), *cells, str(n), str(seeds), *std, "%", "higher"]))
    return "\n".join(lines) + "\n"


def score_run(
    folder: Path,
    batch_size: int = 16,
    rows: list[tuple] = METRICS,
    failures: dict[int, str] | None = None,
    dataset: str = "digits",
    seeds: int = 1,
    names: list[str] | None = None,
    **meta: object,
) -> Path:
    names = names or archs(40)
    settings = {"space": "nb201", "archs": {"count": len(names), "sha256": "0" * 64}, "seeds": [1]}
    config = {"space": "nb201", "oracle": "digits", "oracle_path": None, "batch_size": batch_size, "seeds": 1}
    config |= {"out": str(folder), "proxies": ["aleph", {"name": "vkdnw", "alpha": 0.1}], "archs": "digits"}
    record(folder, "score", config, settings, **meta)
    table = [
        ScoreRow(
            name,
            1,
            {"aleph": float(i), "macs": None if i == 3 or i in (failures or {}) else 1e6 * i},
            "failed" if i in (failures or {}) else "ok",
            (failures or {}).get(i, "macs: not finite" if i == 3 else ""),
            0.5,
        )
        for i, name in enumerate(names)
    ]
    write_table(folder / "scores.csv", ScoreTable(("aleph", "macs"), table))
    (folder / "metrics.csv").write_text(metrics_text(rows, dataset, len(names), seeds))
    head = ",".join(["arch", *('"' + ranking.replace('"', '""') + '"' for ranking, *_ in rows)])
    body = [",".join([name, *[str(float(i + 1))] * len(rows)]) for i, name in enumerate(archs(len(names)))]
    (folder / "ranking.csv").write_text("\n".join([head, *body]) + "\n")
    return folder


def search_run(
    folder: Path, shift: int = 0, failing: bool = False, strategy: str = "evolution", **meta: object
) -> Path:
    settings = {"space": "nb201", "ranking": "aleph", "strategy": strategy, "seed": 0}
    record(folder, "search", settings | {"out": str(folder)}, settings, status="finished", evaluations=30, **meta)
    history = HistoryFile(folder / "history.csv", ("aleph",))
    names = archs(30)
    for i in range(30):
        lost = failing and i % 10 == 4
        value = None if lost else float((i * 7 + shift) % 31)
        costs = {"macs": 1_000_000 * (i + 1), "num_params": 5_000}
        ended = {"status": "failed" if lost else "ok", "reason": "aleph: out of memory" if lost else "", "seconds": 0.1}
        history.append(Candidate(i, names[i], None, "initial", **costs, values={"aleph": value}, **ended))
    history.close()
    best = {"arch": names[4], "macs": 5_000_000, "num_params": 5_000, "layers": None, "accuracies": {"digits": 91.25}}
    write_json(folder / "found.json", best | {"top": [best, best]})
    return folder


def fit_run(folder: Path, top1: float = 90.0, epochs: int = 3, vkdnw: float = 1.5, **meta: object) -> Path:
    config = {
        "model": {"arch": archs(3)[2], "space": "nb201", "optimizer": {"lr": 0.1}},
        "data": {"class_path": "Digits"},
        "wandb": "mine",
        "trainer": {"max_epochs": epochs, "callbacks": [{"class_path": "a.ProxyCallback", "init_args": {"seed": 1}}]},
    }
    record(folder, "fit", config, {"model.arch": "x"}, **({"status": "finished"} | meta))
    lines = []
    for epoch in range(epochs):
        step = {"step": epoch, "epoch": epoch}
        lines.append(step | {"val/loss": 1.0 / (epoch + 1), "val/top1": top1 - 10 * (epochs - 1 - epoch)})
        lines.append(step | {"train/loss": None if epoch == 1 else 2.0 / (epoch + 1), "nonfinite": ["train/loss"]})
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(
        folder / "results.json", {"val/top1": top1, "test/top1": top1 - 1, "images_per_s": 1000.0, "odd": "text"}
    )
    row = ScoreRow(archs(3)[2], 1, {"vkdnw": vkdnw, "vkdnw_decile_1": 0.1, "zen": None})
    write_table(folder / "scores.csv", ScoreTable(("vkdnw", "vkdnw_decile_1", "zen"), [row]))
    return folder

"""What reads text and files of strangers, and inputs for it: valid ones, valid ones with damage, and anything else.

`test_fuzz.py` takes a few inputs of each, ``benchmarks/fuzz/run.py`` 100,000 in all. The only allowed answers are a value
and a ``ValueError`` or ``CommandFailed`` of one short line, soon.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from vkdnw_pl.callbacks import read_history as read_training
from vkdnw_pl.cluster.options import LaunchOptions, read_time
from vkdnw_pl.cluster.record import LaunchFolder
from vkdnw_pl.commands.score import score
from vkdnw_pl.commands.search import search
from vkdnw_pl.data import batches
from vkdnw_pl.data.base import read_splits
from vkdnw_pl.data.restricted_pickle import read_batch
from vkdnw_pl.errors import CommandFailed
from vkdnw_pl.networks.arch_file import read_arch_file
from vkdnw_pl.option_parser import CommandParser
from vkdnw_pl.options import parse_amount
from vkdnw_pl.oracles.csv_file import load_csv
from vkdnw_pl.oracles.timm_results import read_results
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.ranking import columns_of, parse_ranking
from vkdnw_pl.report.paper.tables import parse_notes
from vkdnw_pl.report.runs import read_run
from vkdnw_pl.runs.documents import check_yaml, parse_json, parse_yaml
from vkdnw_pl.runs.table import join_rows, read_table
from vkdnw_pl.scoring.archs import resolve_archs
from vkdnw_pl.scoring.evaluation import choose_rankings
from vkdnw_pl.scoring.folder import ScoreFolder, join_shards
from vkdnw_pl.scoring.plan import Shard, parse_seeds
from vkdnw_pl.scoring.score_tables import canonical
from vkdnw_pl.search.constraints import _read_measurements
from vkdnw_pl.search.history import AFTER, BEFORE, read_history
from vkdnw_pl.spaces import MBV2, NB201, TimmZoo
from vkdnw_pl.spaces.resolve import resolve_arch

LONGEST_S = 5.0
LONGEST_LINE = 5000

NB, MB, ZOO = NB201(), MBV2(), TimmZoo()
CELLS = [NB.format(genotype) for genotype in [(3, 0, 0, 0, 0, 1), (4, 3, 2, 1, 0, 1), (1, 1, 1, 1, 1, 1)]]
STRUCTURES = ["SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperConvK1BNRELU(32,64,1,1)", "mbv2_480m"]
TOKENS = [
    *(
        "",
        " ",
        "\n",
        "\r",
        "\t",
        ",",
        ";",
        '"',
        "'",
        "|",
        "~",
        "+",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "#",
        "\0",
        "\ufeff",
    ),
    *(
        "\ud800",
        "\x85",
        "\u2028",
        "\u0661",
        "\x1b[2J",
        "é",
        "-1",
        "0",
        "1.0",
        "1_0",
        "1e999",
        "nan",
        ".inf",
        "null",
        "true",
    ),
    *(
        "9" * 30,
        "9" * 5000,
        "x" * 5000,
        "[" * 300,
        "&a ",
        "*a",
        "<<: *a",
        "!!int ",
        "%",
        "*",
        "?",
        "..",
        "/",
        "\\",
        "arch",
        "naslib:",
    ),
    *("failed", "ok", "index", "seed", "-", "~", "=", ">", "rank_sum(", "sample:", "None", "__class__", "$(x)"),
]


@st.composite
def damaged(draw: Any, samples: list[str]) -> str:
    """One of the samples with up to four pieces cut out, doubled, replaced or put in; or any text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=40))
    text = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = draw(st.sampled_from(TOKENS) | st.just(text[start:end] * 2) | st.text(max_size=3))
        text = text[:start] + piece + text[end:]
    return text


@st.composite
def damaged_bytes(draw: Any, samples: list[bytes]) -> bytes:
    """The same with bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    content = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 8)))
        content = content[:start] + draw(st.binary(max_size=6) | st.just(content[start:end] * 2)) + content[end:]
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 5)) == 0 else content


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.sampled_from([2**31, 2**63, 10**12, 10**30])
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["nb201", "mbv2", "random", "digits", "failed", "running", "os.path", ".", *CELLS])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def changed(draw: Any, content: Any) -> Any:
    """A JSON-able value in which up to three places hold something else, lack, or are doubled."""
    root = [json.loads(json.dumps(content))]
    for _ in range(draw(st.integers(0, 3))):
        holder: Any = root
        place: Any = 0
        while isinstance(holder[place], dict | list) and holder[place] and draw(st.integers(0, 3)):
            holder = holder[place]
            place = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        if holder is not root and draw(st.integers(0, 3)) == 0:
            del holder[place]
        else:
            holder[place] = draw(VALUES)
    return root[0]


def named(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Options: some of the known names, or others, with any values."""
    keys = st.sampled_from(names) | st.text(max_size=3) | st.integers(0, 2) | st.none()
    return st.dictionaries(keys, VALUES, max_size=3)


TABLE = "arch,seed,p,q,status,reason,seconds\n"
TABLE += "".join(
    f"{arch},{i},{i}.5,{'' if i else 2},{'failed' if i else 'ok'},no,0.5\n" for i, arch in enumerate(CELLS)
)
ACCURACIES = "arch,x,x_std\n" + "".join(f"{arch},{50 + i},1\n" for i, arch in enumerate(CELLS))
HISTORY = ",".join([*BEFORE, "p", *AFTER]) + "\n"
HISTORY += "".join(f"{i},{arch},{i - 1 if i else ''},random,5,6,,,,1.5,ok,,0.5\n" for i, arch in enumerate(CELLS))
FOUND = {
    **{
        "format": 1,
        "space": "nb201",
        "arch": CELLS[0],
        "network": {"cells": 2},
        "num_classes": 10,
        "input_size": [3, 16, 16],
    },
    "top": [{"arch": arch, "rank": i + 1, "scores": {"p": 1.5}} for i, arch in enumerate(CELLS)],
}
META = {
    **{
        "format": 1,
        "command": "score",
        "status": "finished",
        "digest": "0",
        "environment": {"host": "x", "versions": {}},
    },
    "settings": {
        "space": "nb201",
        "seeds": [1],
        "archs": {"count": 3, "sha256": "0" * 64},
        "proxies": [{"name": "params"}],
    },
    "runs": [{"started_at": "2026-01-01T00:00:00+00:00", "finished_at": None, "elapsed_s": 3.5, "rows_in_table": 3}],
}
METRICS = "ranking,dataset,split,n,kendall,spearman,ndcg\np,x,test,3,0.5,0.5,0.5\n"
CONFIG = "space: nb201\narchs: digits\nproxies: [params, {name: vkdnw, alpha: 0.1}]\nbase: &a {x: 1}\nother: {<<: *a, y: 2}\n"
TIMM = "model,img_size,top1,param_count\nresnet10t.c3_in1k,224,70.5,'5.4'\nresnet18,224,71,11\n".replace("'", '"')
JOB = {"id": "1", "kind": "array", "script": "x.sbatch", "array": "0-1", "tasks": ["a"], "command": ["sbatch"]}
LAUNCH = {
    **{"format": 1, "command": "score", "out": ".", "place": [], "settings": None, "dependency": None},
    "tasks": [{"name": "a", "folder": ".", "index": 0}],
    "jobs": [{**JOB, "submitted_at": "2026-01-01T00:00:00+00:00"}],
}
PICKLE = pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}, protocol=2)


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


IMAGES = [npy(np.zeros((4, 3, 8, 8), np.float32)), npy(np.zeros((2, 8, 8), complex)), npy(np.array(["a"]))]
NAMED_IMAGES = [npz(images=np.zeros((4, 3, 8, 8), np.uint8), labels=np.arange(4)), npz(x=np.zeros(3))]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _file(name: str, read: Callable[[Path], Any]) -> Callable[[Any, Path], Any]:
    """Reads a value that is written into a file first: bytes, text, or what becomes JSON."""

    def written(content: Any, folder: Path) -> Any:
        path = folder / name
        if not isinstance(content, bytes):
            content = _encoded(content if isinstance(content, str) else json.dumps(content))
        path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
        return read(path)

    return written


def _images(path: Path) -> None:
    batches._data_set.cache_clear()
    batches.image_batch(str(path), 2, (3, 8, 8), 0)


def _table(path: Path) -> None:
    table = canonical(read_table(path), NB, str(path))
    join_rows(table.rows, str(path))


def _run(content: Any, folder: Path) -> None:
    """A run folder of which one file is damaged, through all that the report reads."""
    command, name, text = content
    path = folder / "run"
    path.mkdir(exist_ok=True)
    files = {
        "meta.json": json.dumps({**META, "command": command}),
        **{
            "config.yaml": CONFIG,
            "scores.csv": TABLE,
            "ranking.csv": "arch,p\n" + f"{CELLS[0]},1\n",
            "metrics.csv": METRICS,
        },
        **{"history.csv": HISTORY, "found.json": json.dumps(FOUND), "results.json": '{"a": 1.5}', "wandb_id": "x"},
        "history.jsonl": '{"step": 1, "epoch": 0, "x": 1.5}\n',
        name: text if isinstance(text, str) else json.dumps(text),
    }
    for file, written in files.items():
        (path / file).write_bytes(_encoded(written))
    run = read_run(path)
    for part in ("environment", "attempts", "seconds", "space", "wandb_id", "scores", "metrics", "ranking", "failures"):
        getattr(run, part)
    for part in ("candidates", "found", "history", "results", "initial_proxies", "notes"):
        getattr(run, part)


def _continue(content: Any, folder: Path) -> None:
    (folder / "meta.json").write_text(json.dumps(content), "utf-8")
    ScoreFolder(folder).check_continues({"space": "nb201", "archs": META["settings"]["archs"], "seeds": [1]})


def _merge(content: Any, folder: Path) -> None:
    (folder / "meta.json").write_text(json.dumps(content), "utf-8")
    (folder / "archs.txt").write_text("".join(f"{arch}\n" for arch in CELLS))
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "scores.csv").write_text(TABLE)
    join_shards([ScoreFolder(folder)], allow_missing=True)


SCORE, SEARCH = CommandParser(score, "score"), CommandParser(search, "search")


def _options(parser: CommandParser) -> Callable[[Any, Path], Any]:
    return lambda given, folder: parser.parse([f"--{given[0]}={given[1]}"])


VALUES_GIVEN = [
    *(
        "1",
        "0",
        "-1",
        "1.5",
        "1..5",
        "[1, 2]",
        "true",
        "null",
        "auto",
        "0/4",
        "[params]",
        "[{name: vkdnw, alpha: 0.1}]",
        "450M",
    ),
    *(
        "{cells: 2}",
        "{image_size: 16, num_classes: 3}",
        "nb201",
        "mbv2",
        "vkdnw_agg",
        "aleph>vkdnw+jacov",
        "a/b",
        "x.csv",
        "[score, macs]",
    ),
]


def _given(parser: CommandParser) -> st.SearchStrategy[tuple[str, str]]:
    names = [option.name for option in parser.options]
    return st.tuples(
        st.sampled_from(names), damaged(VALUES_GIVEN) | VALUES.map(lambda value: yaml.safe_dump(value).strip())
    )


ANY_FILE = {
    **{"meta.json": META, "found.json": FOUND, "results.json": {"a": 1.5, "b": None}},
    **{"config.yaml": CONFIG, "scores.csv": TABLE, "metrics.csv": METRICS, "history.csv": HISTORY, "wandb_id": "abc"},
    **{"ranking.csv": f"arch,p\n{CELLS[0]},1\n", "history.jsonl": '{"step": 1, "epoch": 0}\n{"step": 2}\n'},
}


@st.composite
def run_folders(draw: Any) -> tuple[str, str, Any]:
    name = draw(st.sampled_from(sorted(ANY_FILE)))
    content = ANY_FILE[name]
    if not isinstance(content, str) and draw(st.booleans()):
        return draw(st.sampled_from(["score", "search", "fit"])), name, draw(changed(content))
    text = content if isinstance(content, str) else json.dumps(content)
    return draw(st.sampled_from(["score", "search", "fit"])), name, draw(damaged([text]))


@dataclass(frozen=True)
class Target:
    """Something that reads."""

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any, Path], Any]
    share: int = 10
    """Of all inputs, in parts; those that take long get fewer."""


def _text(samples: list[str], read: Callable[[str], Any], share: int = 10) -> Target:
    return Target(damaged(samples), lambda text, folder: read(text), share)


def _csv(name: str, samples: list[str], read: Callable[[Path], Any], share: int = 10) -> Target:
    inputs = damaged(samples) | damaged_bytes([sample.encode() for sample in samples])
    return Target(inputs, _file(name, read), share)


TARGETS: dict[str, Target] = {
    "nb201 architectures": _text([*CELLS, "index:(3, 0, 0, 0, 0, 1)", "naslib:4,0,3,1,4,3"], NB.architecture, 20),
    "mbv2 architectures": _text(STRUCTURES, MB.architecture, 20),
    "timm architectures": _text(["resnet10t", "mobilenetv2_100.ra_in1k", "resnet10t.x"], ZOO.architecture, 3),
    "architectures of any space": _text([*CELLS, *STRUCTURES, "resnet10t", "found.json#2"], resolve_arch, 3),
    "option archs": _text(
        [*CELLS, ",".join(CELLS), "sample:3", "digits", "*none*", "a.json#1"],
        lambda text: resolve_archs(text, NB, lambda which: CELLS),
        4,
    ),
    "list of architectures": _csv(
        "archs.txt",
        ["\n".join(CELLS), f"# x\n{CELLS[0]}\n", ACCURACIES, "arch;coding\n(4, 0, 3, 1, 4, 3);naslib\n"],
        lambda path: resolve_archs(str(path), NB, lambda which: CELLS),
    ),
    "seeds": Target(damaged(["1", "1..5", " 3 "]) | VALUES, lambda value, folder: parse_seeds(value), 20),
    "shards": _text(["0/4", " 3 / 4 "], Shard.parse, 20),
    "amounts": Target(
        damaged(["450e6", "450M", "0.45G", "450_000"]) | SCALARS, lambda value, folder: parse_amount("x", value), 20
    ),
    "rankings": _text(
        ["aleph>vkdnw+jacov", "vkdnw_agg", "rank_sum(a,b)", "a"],
        lambda text: (columns_of(parse_ranking(text)), choose_rankings(["aleph", "vkdnw", "jacov", "a", "b"], [text])),
        20,
    ),
    "proxies": Target(
        st.lists(
            damaged(["vkdnw", "params", "aleph", "my.Proxy"])
            | named("name", "label", "alpha", "init", "samples", "images")
            | VALUES.map(lambda value: {"name": "vkdnw", "alpha": value})
            | VALUES.map(lambda value: {"name": "naswot", "samples": value, "label": value}),
            max_size=3,
        ),
        lambda specs, folder: make_proxies(specs),
    ),
    "options of nb201": Target(
        named("channels", "cells", "num_classes", "image_size", "in_channels", "bn_affine"),
        lambda options, folder: NB.check_network(CELLS[0], **{str(key): value for key, value in options.items()}),
        20,
    ),
    "options of mbv2": Target(
        named("num_classes", "image_size", "in_channels", "use_se", "bn_eps"),
        lambda options, folder: MB.check_network(STRUCTURES[0], **{str(key): value for key, value in options.items()}),
    ),
    "options of score": Target(_given(SCORE), _options(SCORE), 2),
    "options of search": Target(_given(SEARCH), _options(SEARCH), 2),
    "options of a launch": Target(
        st.dictionaries(
            st.sampled_from(["array", "time", "gpus", "mem", "job_name", "dependency", "sbatch", "partition"]),
            damaged(["4", "64%8", "1-02:03:04", "16G", "a100:2", "afterok:12", "--signal=USR1@30", "[-C x]"]),
            max_size=3,
        ),
        lambda given, folder: LaunchOptions(**given),
    ),
    "times": _text(["1-02:03:04", "30", "1:30", "2h", "1d12h"], read_time),
    "score tables": _csv("t.csv", [TABLE, TABLE.replace(",", ";"), "," + TABLE.replace("\n|", "\n0,|")], _table, 30),
    "compressed tables": _csv("t.csv.gz", [TABLE], _table),
    "damaged archives": Target(
        damaged_bytes([gzip.compress(TABLE.encode())]), lambda raw, folder: _archive(raw, folder)
    ),
    "accuracies": _csv("o.csv", [ACCURACIES], lambda path: load_csv(path, NB), 20),
    "timm's results": _csv("r.csv", [TIMM], read_results),
    "histories": _csv("h.csv", [HISTORY], read_history, 20),
    "measurements": _csv("m.csv", [f"arch,latency_ms,peak_mb\n{CELLS[0]},1.5,\n"], _read_measurements),
    "histories of trainings": _csv("h.jsonl", ['{"step": 1}\n{"step": 2, "x": 0.5}\n'], read_training),
    "found.json": Target(
        changed(FOUND) | damaged([json.dumps(FOUND, indent=1)]), _file("found.json", read_arch_file), 20
    ),
    "meta.json": Target(changed(META), _continue, 20),
    "shards to merge": Target(changed(META), _merge, 5),
    "run folders": Target(run_folders(), _run, 8),
    "launches": Target(changed(LAUNCH), lambda content, folder: _launch(content, folder)),
    "YAML": _text(
        [CONFIG, "{a: [1, {b: c}]}", "- 1\n- x\n"], lambda text: (check_yaml(text, "f"), parse_yaml(text, "f")), 30
    ),
    "JSON": _text([json.dumps(META), '[1, {"a": null}]'], lambda text: parse_json(text, "f"), 20),
    "notes": Target(
        damaged(["- {text: x, tables: [table1]}\n", "- text: y\n  tables: table3\n  rows: [a]\n"])
        | changed([{"text": "x", "tables": ["table1"], "rows": ["a"]}]).map(json.dumps),
        lambda text, folder: parse_notes(text, "f"),
    ),
    "splits": Target(changed({"train": ["int", ["0", "5"]], "valid": [1, 2]}), _file("s.json", read_splits)),
    "pickled batches": Target(damaged_bytes([PICKLE]), _file("batch", read_batch), 20),
    "images (.npy)": Target(damaged_bytes(IMAGES), _file("i.npy", _images), 5),
    "images (.npz)": Target(damaged_bytes(NAMED_IMAGES), _file("i.npz", _images), 5),
}


def _archive(raw: bytes, folder: Path) -> None:
    (folder / "t.csv.gz").write_bytes(raw)
    _table(folder / "t.csv.gz")


def _launch(content: Any, folder: Path) -> None:
    launches = LaunchFolder(folder)
    launches.path.mkdir(exist_ok=True)
    launches.record.write_text(json.dumps(content), "utf-8")
    launches.read()


def answer(target: Target, value: Any, folder: Path) -> str:
    """Give one input to a target: ``read`` or ``refused``; an ``AssertionError`` where that is not done as it should be."""
    began_at = time.perf_counter()
    try:
        target.read(value, folder)
        said = None
    except UnicodeError as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    except (ValueError, CommandFailed) as error:
        said = str(error)
    seconds = time.perf_counter() - began_at
    assert seconds < LONGEST_S, f"it took {seconds:.1f} s"
    if said is None:
        return "read"
    assert said.strip(), "it is refused without a word"
    lines = said.splitlines() if target is not TARGETS["architectures of any space"] else [said.replace("\n", " ")]
    assert len(lines) == 1, f"it is refused in {len(lines)} lines: {said[:300]!r}"
    return "refused"

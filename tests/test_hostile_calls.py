"""Calls that no one should make: each ends in one line that says why, at once, and never in a traceback.

They run in this process, and end before anything is computed.
"""

import gzip
import json
import time

import pytest

from vkdnw_pl.cli import main
from vkdnw_pl.spaces import SPACES

A = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
SCORE = ["score", "--archs", A, "--proxies", "[params]", "--oracle", "null", "--progress", "false", "--out", "out"]
SEARCH = ["search", "--space", "nb201", "--ranking", "params", "--progress", "false", "--out", "out"]
NAN = "a: .nan\n"
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)
FILES = {
    "empty": b"",
    "empty.csv": b"",
    "empty.json": b"",
    "empty.yaml": b"",
    "zeros.csv": b"\0" * 1000,
    "zeros.csv.gz": gzip.compress(b"\0" * 100_000),
    "cut.csv.gz": gzip.compress(b"arch,p\n" * 1000)[:-9],
    "no.csv.gz": b"arch,p\n",
    "latin.csv": f"arch,p\n{A},1\n\xe9,2\n".encode("latin1"),
    "quote.csv": f'arch,p\n{A},"1\n'.encode(),
    "twice.csv": f"arch,p,p\n{A},1,2\n".encode(),
    "text.csv": f"arch,p\n{A},one\n".encode(),
    "huge.csv": f"arch,p\n{A},{'1' * 200_000}x\n".encode(),
    "seed.csv": f"arch,seed,p\n{A},-1,1\n".encode(),
    "contradiction.csv": f"arch,p\n{A},1\n{A},2\n".encode(),
    "ok.csv": f"arch,p\n{A},1.5\n".encode(),
    "percent.csv": f"arch,p\n{A},101\n".encode(),
    "only.csv": b"arch\n",
    "deep.json": b"[" * 3000 + b"]" * 3000,
    "twice.json": b'{"arch": "x", "arch": "y"}',
    "list.json": b"[1, 2]",
    "number.json": b'{"arch": 3, "space": []}',
    "network.json": json.dumps({"arch": A, "space": "nb201", "network": {"cells": 10**9}}).encode(),
    "space.json": json.dumps({"arch": A, "space": "os.path"}).encode(),
    "top.json": json.dumps({"arch": A, "space": "nb201", "top": [{"arch": 5}]}).encode(),
    "twice.yaml": b"space: nb201\nspace: mbv2\n",
    "deep.yaml": b"network: " + b"[" * 3000,
    "bomb.yaml": BOMB.encode(),
    "tag.yaml": b"space: !!python/object/apply:os.getcwd []\n",
    "list.yaml": b"- a\n- b\n",
    "unknown.yaml": b"spaec: nb201\n",
    "binary.yaml": b"\xff\xfe\x00",
    "key.yaml": b"? [a, b]\n: c\n",
    "broken.ckpt": b"PK\x03\x04" + b"\0" * 50,
    "empty.ckpt": b"",
    "text.npy": b"\x93NUMPY\x01\x00v\x00",
    "a.skops": b"PK",
}
BIG = "1" + "0" * 18
CALLS = {
    "score": [
        *([*SCORE, "--seeds", value] for value in ("1..99999999999", "-1", "1.5", "[1, 1]", "[]", "[-1]", "{a: 1}")),
        *([*SCORE, "--seeds", value] for value in ("9" * 5000, "1.." + "9" * 30, "5..1", "", "[[1]]", "null", "true")),
        *([*SCORE, "--batch_size", value] for value in ("0", "-3", "1.5", BIG, "none", "9" * 5000)),
        *(
            [*SCORE, "--network", value]
            for value in ("{cells: 1000000000}", "{channels: 10000000}", "{image_size: 1000000000}")
        ),
        *(
            [*SCORE, "--network", value]
            for value in ("{num_classes: 100000000000}", "{in_channels: 100000000000}", "[1]", "5")
        ),
        *(
            [*SCORE, "--network", value]
            for value in ("{cells: -1}", "{cells: .nan}", "{cells: 1.0}", "{1: 2}", "{cells: {a: 1}}")
        ),
        *(
            [*SCORE, "--network", value]
            for value in ("{cells: 1, cells: 2}", "[" * 3000, BOMB, "{null: 1}", "{image_size: 30}")
        ),
        *(
            [*SCORE, "--proxies", value]
            for value in ("[]", "[vkdwn]", "[{name: 3}]", "[{}]", "[1]", "vkdnw", "[{name: vkdnw, x: 1}]")
        ),
        *(
            [*SCORE, "--proxies", value]
            for value in ("[params, params]", "[os.path]", "[.x]", "[{name: vkdnw, alpha: -1}]", "{a: b}")
        ),
        *([*SCORE, "--workers", value] for value in ("0", "1000000000", "many", "1.5")),
        *(
            [*SCORE, "--shard", value]
            for value in ("1/1", "0/0", "a/b", "0/" + "9" * 5000, "999999998/999999999", "-1/2")
        ),
        *(
            [*SCORE, "--archs", value]
            for value in ("sample:0", "sample:-1", f"sample:{BIG}", "sample:" + "9" * 5000, "[]", "", "*zzz")
        ),
        *(
            [*SCORE, "--archs", value]
            for value in ("x" * 200_000, "(" * 10_000, "empty", "zeros.csv", "twice.csv", "empty.json")
        ),
        *(
            [*SCORE, "--archs", value]
            for value in ("deep.json", "twice.json", "list.json", "number.json", "top.json", "space.json")
        ),
        *(
            [*SCORE, "--archs", value]
            for value in ("top.json#9", "network.json", "network.json#" + "9" * 5000, ".", "a\x00b", "[3]")
        ),
        *(
            [*SCORE, "-c", value]
            for value in (
                "twice.yaml",
                "deep.yaml",
                "bomb.yaml",
                "tag.yaml",
                "list.yaml",
                "unknown.yaml",
                "binary.yaml",
            )
        ),
        *([*SCORE, "-c", value] for value in ("key.yaml", "empty.yaml", "nowhere.yaml", ".", "")),
        *(
            [*SCORE, "--oracle", value]
            for value in ("nats", "x", "x.csv", "only.csv", "percent.csv", "zeros.csv", "quote.csv", "timm")
        ),
        *([*SCORE, "--space", value] for value in ("nb2001", "os.path", ".", "a..b", "", "mbv2")),
        [*SCORE, "--space", "mbv2", "--archs", f"sample:{BIG}"],
        [*SCORE, "--space", "mbv2", "--archs", "SuperConvK3BNRELU(3,10000000,2,1)SuperConvK1BNRELU(10000000,64,1,1)"],
        [*SCORE, "--space", "mbv2", "--archs", f"SuperConvK3BNRELU(3,8,2,{BIG})SuperConvK1BNRELU(8,64,1,1)"],
        [*SCORE, "--space", "mbv2", "--archs", "SuperConvK3BNRELU(3,90000,2,1)SuperConvK1BNRELU(90000,90000,1,1)"],
        [*SCORE, "--space", "timm_zoo", "--archs", "resnet10t", "--network", "{num_classes: 100000000000}"],
        [*SCORE, "--rankings", "['a>']"],
        [*SCORE, "--rankings", "[zzz]"],
        [*SCORE, "--max_macs", "0"],
        [*SCORE, "--max_macs", ".nan"],
        [*SCORE, "--row_timeout", ".nan"],
        [*SCORE, "--input", "text.npy", "--proxies", "[vkdnw]"],
        [*SCORE, "--input", "{class_path: os.path}", "--proxies", "[vkdnw]"],
        [*SCORE, "--input", "{class_path: SyntheticImages, init_args: 3}", "--proxies", "[vkdnw]"],
        [*SCORE, "--input", "{a: b}", "--proxies", "[vkdnw]"],
        [*SCORE, "--init", "none"],
        [*SCORE, "--top_k", "0"],
        [*SCORE, "--archs_seed", "-1"],
        [*SCORE, "--out", "empty"],
        [*SCORE, "--wandb", "a/b/c"],
        ["score", "--archs"],
        ["score", "archs"],
        ["score", "--archs", "digits", "--nonsense"],
    ],
    "search": [
        *(
            [*SEARCH, f"--{name}", value]
            for name in ("evaluations", "batch", "top_k", "population")
            for value in ("0", "-1", "1.5")
        ),
        *([*SEARCH, "--strategy", "ageing", "--tournament", value] for value in ("0", BIG)),
        *([*SEARCH, "--max_macs", value] for value in ("x", "-1", "1e999", "9" * 5000, "1e-5", ".inf", "[1]")),
        *([*SEARCH, "--seed", value] for value in ("-1", "1.5", "9" * 30)),
        [*SEARCH, "--evaluations", BIG],
        [*SEARCH, "--network", "{cells: 1000000000}"],
        [*SEARCH, "--measure_batch_size", BIG],
        [*SEARCH, "--ranking", "+"],
        [*SEARCH, "--ranking", "x" * 100_000],
        [*SEARCH, "--ranking", "rank_sum("],
        [*SEARCH, "--start", "nowhere.json"],
        [*SEARCH, "--nodes", BIG],
        [*SEARCH, "--counting", "x"],
        *(
            [*SEARCH, "--scores", value]
            for value in ("nowhere.csv", "empty.csv", "quote.csv", "text.csv", "ok.csv", ".")
        ),
        *(
            [*SEARCH, "--strategy", "pareto", "--objectives", value]
            for value in ("[]", "[x]", "[score, score]", "score")
        ),
    ],
    "evaluate": [
        *(
            ["evaluate", value, "--oracle", "digits"]
            for value in FILES
            if ".csv" in value and value not in ("ok.csv", "percent.csv")
        ),
        *(["evaluate", value] for value in ("nowhere", "empty", ".", "[]", "[ok.csv, ok.csv]", "ok.csv#2", "[" * 3000)),
        ["evaluate"],
        ["evaluate", "ok.csv", "--oracle", "null", "--models", "[random_forest]"],
        ["evaluate", "ok.csv", "--models", "[a.skops]"],
        ["evaluate", "ok.csv", "--models", "[x]"],
        ["evaluate", "ok.csv", "--paper", "table9"],
        ["evaluate", "ok.csv", "--paper", "table1", "--bootstrap", "-1"],
        ["evaluate", "ok.csv", "--paper", "table1", "--bootstrap", BIG],
        ["evaluate", "ok.csv", "--paper", "table1", "--notes", "bomb.yaml"],
        ["evaluate", "ok.csv", "--top_k", "0"],
        ["evaluate", "ok.csv", "--train_size", "5"],
        ["evaluate", "ok.csv", "--space", "timm_zoo"],
        ["evaluate", "ok.csv", "--oracle", "text.csv"],
        ["evaluate", "ok.csv", "--rankings", "[q]"],
    ],
    "merge": [
        ["merge"],
        ["merge", "nowhere", "--out", "out"],
        ["merge", "empty", "--out", "out"],
        ["merge", ".", ".", "--out", "out"],
        ["merge", "run", "--out", "out"],
        ["merge", "odd", "--out", "out"],
        ["merge", "bare", "--out", "out"],
    ],
    "report": [
        ["report"],
        *(["report", value] for value in ("nowhere", "~nobody", "empty", "run", "odd", "deep", "[")),
        ["report", "run", "--out", "empty/x.html"],
    ],
    "export": [
        ["export"],
        *(
            ["export", value, "--out", "out"]
            for value in ("nowhere", "nowhere.ckpt", "broken.ckpt", "empty.ckpt", "run", "odd", "bare", ".")
        ),
        *(
            ["export", value, "--untrained", "true", "--out", "out"]
            for value in ("twice.json", "deep.json", "number.json", "space.json")
        ),
        *(
            ["export", value, "--untrained", "true", "--out", "out"]
            for value in ("network.json", "", "x" * 10_000, "empty.json")
        ),
        ["export", A, "--untrained", "true", "--network", "{cells: 1000000000}", "--out", "out"],
        ["export", A, "--untrained", "true", "--format", "x", "--out", "out"],
    ],
    "fit": [
        *(
            ["fit", "-c", value]
            for value in (
                "twice.yaml",
                "deep.yaml",
                "bomb.yaml",
                "list.yaml",
                "unknown.yaml",
                "nowhere.yaml",
                "binary.yaml",
                "tag.yaml",
            )
        ),
        ["fit", "--model", "{arch: a, arch: b}"],
        ["fit", "--model.arch", A, "--model.network", "{cells: 1000000000}", "--data", "Synthetic"],
        ["fit", "--model.arch", A, "--model.network", "{channels: 10000000}", "--data", "Synthetic"],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--data.batch_size", "0"],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--data.batch_size", BIG],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--data.input_size", "[3]"],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--data.input_size", "[3, 1000000000, 1000000000]"],
        ["fit", "--model.arch", A, "--data", "Nothing"],
        ["fit", "--model.arch", A, "--data", "os.path"],
        ["fit", "--model.arch", "twice.json", "--data", "Synthetic"],
        ["fit", "--model.arch", "deep.json", "--data", "Synthetic"],
        ["fit", "--model.arch", "space.json", "--data", "Synthetic"],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--trainer.max_epochs", "x"],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--seed_everything", "-5"],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--out", "empty"],
        ["fit", "--model.arch", A, "--data", "Synthetic", "--trainer", "[" * 3000],
    ],
    "others": [
        ["scoer"],
        ["--nonsense"],
        ["download"],
        ["download", "x"],
        ["download", "[nb201"],
        ["validate", "-c", "nowhere.yaml"],
        ["test", "--ckpt_path", "broken.ckpt"],
        ["status", "nowhere"],
        ["status", "odd"],
        ["score", "--launch", "slurm", "--array", "x"],
        ["score", "--launch", "slurm", "--array", "9" * 5000],
        ["score", "--launch", "x"],
        ["score", "--launch", "slurm", "--sbatch", "[" * 3000],
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile")
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    for name, meta in {
        "run": "",
        "odd": '{"command": 3, "settings": [], "runs": {}}',
        "bare": '{"command": "score"}',
        "deep": "[" * 3000,
    }.items():
        (path / name).mkdir()
        (path / name / "meta.json").write_text(meta)
    (path / "odd" / "slurm").mkdir()
    (path / "odd" / "slurm" / "launch.json").write_text('{"format": 1, "tasks": 3}')
    return path


@pytest.mark.slow  # what each is refused by has a quick test of its own
@pytest.mark.parametrize("command", CALLS)
def test_hostile_calls_end_in_one_line(command, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VKDNW_CACHE", str(folder / "cache"))
    for call in CALLS[command]:
        shown = " ".join(argument[:60] for argument in call)
        monkeypatch.setattr("sys.argv", ["vkdnw", *call])
        began_at = time.perf_counter()
        code = main(call)
        seconds = time.perf_counter() - began_at
        out, err = capsys.readouterr()
        assert code in (1, 2), f"{shown}: exit code {code}\n{out}{err}"
        assert "Traceback" not in err
        said = [line for line in err.splitlines() if line and not line.startswith(("see ", "loading ", "usage"))]
        assert 1 <= len(said) <= 1 + len(SPACES.builtin), f"{shown}: {err}"
        assert max(map(len, said)) < 3000, f"{shown}: {err}"
        assert seconds < 20, f"{shown}: {seconds:.1f} s"

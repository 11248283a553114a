"""A search where the truth is known: it ends with the accuracy of what was found, beside the best known."""

import hashlib
import json

import pytest

from vkdnw_pl.cli import main
from vkdnw_pl.oracles import nasbench_macro
from vkdnw_pl.oracles.base import TableFile
from vkdnw_pl.spaces import NASBenchMacro

SPACE = NASBenchMacro()


def accuracy(arch):
    """Made up: more layers are better, the first ones most; the same for all spellings of a network."""
    return 50 + sum((9 - place) * int(op) for place, op in enumerate(SPACE.canonicalise(arch)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Scores of all different networks that agree with a table of all strings, which passes for the published one."""
    data = json.dumps({arch: {"mean_acc": accuracy(arch)} for arch in SPACE.enumerate()}).encode()
    name = nasbench_macro.FILES["cifar10"].name
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(nasbench_macro, "FILES", {"cifar10": TableFile(name, hashlib.sha256(data).hexdigest())})
    rows = [f"{arch},1,{accuracy(arch) / 7!r},1\n" for arch in SPACE.enumerate(unique=True)]
    (tmp_path / "scores.csv").write_text("".join(["arch,seed,good,macs\n", *rows]))
    return tmp_path


def test_the_accuracy_of_what_was_found_and_the_best_known(folder, capsys):
    options = ["--scores", folder / "scores.csv", "--ranking", "good", "--oracle", "nasbench_macro"]
    options += ["--oracle_path", folder, "--max_macs", "80M", "--evaluations", "400", "--population", "50"]
    options += ["--out", folder / "run", "--workers", "1", "--progress", "false", "--figures", "false"]
    assert main(["search", "--space", "nasbench_macro", *map(str, options)]) == 0
    found = json.loads((folder / "run" / "found.json").read_text())
    assert SPACE.canonicalise(found["arch"]) == found["arch"]
    assert found["accuracies"] == {"cifar10": accuracy(found["arch"])}
    value = accuracy(found["arch"])
    within = [arch for arch in SPACE.enumerate(unique=True) if SPACE.cost(arch).macs <= 80_000_000]
    best = max(map(accuracy, within))
    assert best - 4 <= value <= best < accuracy("2" * 8)
    better = sum(accuracy(arch) > value for arch in within)  # different networks, not strings
    known = f"{value:.2f} %; best known within the budget {best:.2f} % ({better:,} of {len(within):,} are better)"
    assert known in capsys.readouterr().out


def test_few_networks_of_known_latency_are_found_in_a_large_space(folder):
    """They are drawn from the table, whose strings may be other spellings than those that a search proposes."""
    strings = ["00020022", "20200220", "22222222", "11100111"]
    (folder / "edge.csv").write_text("".join(["arch,edge[ms lower]\n", *(f"{s},{s.count('2')}.5\n" for s in strings)]))
    options = ["--scores", folder / "scores.csv", "--ranking", "good", "--latency_table", folder / "edge.csv"]
    options += ["--max_latency_ms", "5", "--strategy", "random", "--evaluations", "3", "--out", folder / "run"]
    options += ["--workers", "1", "--progress", "false", "--figures", "false"]
    assert main(["search", "--space", "nasbench_macro", *map(str, options)]) == 0
    found = json.loads((folder / "run" / "found.json").read_text())
    fast = {SPACE.canonicalise(arch) for arch in strings if arch != "22222222"}
    assert {entry["arch"] for entry in found["top"]} == fast

    (folder / "labels.csv").write_text("arch,acc\n22222222,90\n")
    options += ["--overwrite", "--labels", folder / "labels.csv"]
    options[options.index("--ranking") : options.index("--ranking") + 2] = []
    options[:2] = []
    assert main(["search", "--space", "nasbench_macro", *map(str, options)]) == 2

"""What `score` leaves in the run folder, and what it refuses."""

import csv
import json
import random

import numpy as np
import pytest
import scipy.stats
import torch
import yaml
from small_runs import NETWORK, make_oracle, run, score, scores_of

from vkdnw_pl.commands import score as command
from vkdnw_pl.data.batches import image_batch
from vkdnw_pl.errors import UsageError
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.scoring import score_network
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.spaces import NB201


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("score") / "run"
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert run(out, archs="sample:20", seeds="1..2", top_k=5) == 0
    assert torch.equal(torch.get_rng_state(), state)
    return out


def test_rows_are_in_the_order_of_archs_then_seeds(folder):
    archs = random.Random(0).sample(list(NB201().enumerate(unique=True)), 20)
    header, *rows = scores_of(folder)
    deciles = [f"vkdnw_decile_{k}" for k in range(1, 10)]
    assert header == ["arch", "seed", "macs", "aleph", "vkdnw", *deciles, "status", "reason"]
    assert [(row[0], row[1]) for row in rows] == [(arch, seed) for arch in archs for seed in "12"]
    assert (folder / "archs.txt").read_text().splitlines() == archs


def test_a_row_is_what_the_library_computes(folder):
    rows = read_table(folder / "scores.csv").rows
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row in (rows[0], rows[7]):
            network = NB201().build(row.arch, **NETWORK)
            inputs = image_batch("random", 4, (3, 8, 8), row.seed).images
            proxies = make_proxies(["macs", "aleph", "vkdnw"])
            assert score_network(network, inputs, proxies, seed=row.seed).values == row.values
            assert row.values["macs"] == NB201().cost(row.arch, **NETWORK).macs
    finally:
        torch.set_num_threads(threads)


def test_metrics_are_those_of_scipy_on_known_architectures(folder):
    oracle = load_oracle(str(folder.parent / "oracle.csv"))
    accuracies = oracle.accuracies("made_up")
    rows = [row for row in read_table(folder / "scores.csv").rows if row.arch in accuracies]
    with (folder / "metrics.csv").open(newline="") as file:
        metrics = {row["ranking"]: row for row in csv.DictReader(file)}
    assert list(metrics) == ["macs", "aleph", "vkdnw", "vkdnw_single"]
    assert {(row["dataset"], row["split"], row["n"], row["ndcg_k"], row["seeds"]) for row in metrics.values()} == {
        ("made_up", "unspecified", "16", "5", "2")
    }
    for name in ("aleph", "vkdnw"):
        tau, rho = [], []
        for seed in (1, 2):
            here = [row for row in rows if row.seed == seed]
            x = [-np.inf if row.values[name] is None else row.values[name] for row in here]
            y = [accuracies[row.arch] for row in here]
            tau.append(scipy.stats.kendalltau(scipy.stats.rankdata(x), y).statistic)
            rho.append(scipy.stats.spearmanr(scipy.stats.rankdata(x), y).statistic)
        for column, values in (("kendall", tau), ("spearman", rho)):
            assert float(metrics[name][column]) == pytest.approx(np.mean(values), abs=1e-12)
            assert float(metrics[name][f"{column}_std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    # The oracle's accuracy rises with the MACs of the usual network.
    assert float(metrics["macs"]["kendall"]) > 0.95


def test_ranking_has_rank_one_for_the_best(folder):
    with (folder / "ranking.csv").open(newline="") as file:
        ranking = list(csv.DictReader(file))
    macs = {row.arch: row.values["macs"] for row in read_table(folder / "scores.csv").rows}
    best = min(ranking, key=lambda row: float(row["macs"]))
    assert macs[best["arch"]] == max(macs.values())
    assert np.mean([float(row["vkdnw_single"]) for row in ranking]) == pytest.approx(10.5)


def test_record_and_figures(folder):
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["settings"]["seeds"] == [1, 2]
    assert meta["settings"]["proxies"][2]["alpha"] == 0.05
    assert meta["environment"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert meta["environment"]["device"] == {"kind": "cpu"}
    assert meta["notes"] == ["accuracies are known for 16 of the 20 architectures; metrics are of these alone"]
    (made,) = meta["runs"]
    seconds = made["proxy_seconds"]
    mean_row = np.mean([row.seconds for row in read_table(folder / "scores.csv").rows])
    assert set(seconds) == {"macs", "aleph", "vkdnw"}
    assert 0 <= seconds["macs"] < seconds["vkdnw"] <= sum(seconds.values()) < mean_row
    assert (made["rows_made"], made["rows_failed"], made["threads_per_process"]) == (40, 0, 1)
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["ndcg.png", "ranks_made_up.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder / "figures").iterdir())


def test_written_config_repeats_the_run(folder, tmp_path):
    options = yaml.safe_load((folder / "config.yaml").read_text())
    assert options["out"] == str(folder)
    score(**{**options, "out": str(tmp_path / "again")})
    assert scores_of(tmp_path / "again") == scores_of(folder)


def test_summary_says_what_was_found(tmp_path, capsys):
    make_oracle(tmp_path / "oracle.csv")
    run(tmp_path / "run", archs="sample:5", proxies=["macs", "aleph"], progress=True)
    out, err = capsys.readouterr()
    assert f"run folder {tmp_path / 'run'}" in out
    assert "made_up" in out
    assert "accuracies: table" in out
    assert f"scores of 5 rows in {tmp_path / 'run' / 'scores.csv'}" in out
    assert "5 of 5 rows in" in err


def test_what_a_user_should_know_is_said_and_recorded(tmp_path, capsys):
    archs = ["index:3,1,0,1,3,1", "index:3,3,0,1,3,1"]
    oracle = tmp_path / "oracle.csv"
    oracle.write_text(f'arch,part\n"{archs[0]}",0.61\n"{archs[1]}",0.67\n"index:1,1,1,1,1,1",55\n')

    def notes(name, **options):
        run(tmp_path / name, archs=archs, **options)
        said = capsys.readouterr().out
        recorded = json.loads((tmp_path / name / "meta.json").read_text())["notes"]
        assert [line.removeprefix("note: ") for line in said.splitlines() if line.startswith("note: ")] == recorded
        return recorded

    same = "jacov has the same value for every network with 1 images; give it more"
    assert notes("one", proxies=["jacov"], batch_size=1, oracle=None) == [same]
    few = {"name": "naswot", "samples": 16}
    assert notes("few", proxies=[few, "macs"], oracle=None) == [
        "naswot sees 16 images; it is defined on 64",
        "the best are those by naswot because it stands first; --rankings chooses another",
    ]
    assert notes("chosen", proxies=["params", "macs"], rankings=["macs"], oracle=None) == []
    assert notes("part", proxies=["macs"], oracle=str(oracle)) == [
        "the accuracies on part look like fractions (their median is 0.67); they are read as percent"
    ]


def test_architectures_that_the_oracle_does_not_know(tmp_path, capsys):
    archs = [NB201().format((1, 1, 1, 1, 1, op)) for op in range(3)]
    oracle = tmp_path / "oracle.csv"
    oracle.write_text(f"arch,few\n{archs[0]},50\n{NB201().format((3, 3, 3, 3, 3, 3))},90\n")
    assert run(tmp_path / "run", archs=archs, proxies=["macs"], oracle=str(oracle)) == 0
    assert "no metrics on few: its accuracies are known for 1 of the 3 architectures" in capsys.readouterr().out
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1
    assert len((tmp_path / "run" / "ranking.csv").read_text().splitlines()) == 4
    assert run(tmp_path / "all", archs="oracle", proxies=["macs"], oracle=str(oracle)) == 0
    assert len((tmp_path / "all" / "ranking.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("space", "nb301", r"space='nb301' is not known"),
        ("network", {"chanels": 3}, r"did you mean 'channels'"),
        ("network", {"image_size": 10}, r"image_size=10 is not allowed"),
        ("archs", "sample:0", r"archs='sample:0'"),
        ("archs", "nowhere.txt", r"archs='nowhere.txt' is not allowed"),
        ("archs", ["|none~0|"], r"archs\[0\]: "),
        ("proxies", ["mac"], r"did you mean 'macs'"),
        ("proxies", [{"name": "vkdnw", "alfa": 1}], r"no parameter 'alfa'; did you mean 'alpha'"),
        ("seeds", "1..", r"seeds='1..' is not allowed"),
        ("batch_size", 0, r"batch_size=0"),
        ("input", "cats", r"input='cats'"),
        ("input", {"class_path": "torch.nn.Linear"}, r"input=.*not a LightningDataModule"),
        ("init", "zeros", r"init='zeros'"),
        ("oracle", "digit", r"did you mean 'digits'"),
        ("rankings", ["jacov"], r"rankings: 'jacov'"),
        ("top_k", 0, r"top_k=0"),
        ("workers", 0, r"workers=0 is not allowed"),
        ("shard", "4/4", r"shard='4/4' is not allowed"),
        ("shard", "13/14", r"shard='13/14' is empty: there are only 12"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, option, value, text):
    with pytest.raises(UsageError, match=text):
        run(tmp_path / "run", **{option: value})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"proxies": ["jacov"], "data": "cats"}, r"data='cats' is not allowed: 'cats' is not known"),
        (
            {"proxies": ["snip"], "network": {**NETWORK, "num_classes": 4}},
            r"data='digits'.*have a label \d, and snip need labels below",
        ),
        (
            {"proxies": ["macs", {"name": "snip", "samples": 5000}]},
            r"data='digits' is not allowed: batch 1249 of batch_size=4 needs more than the \d+ images of 'digits'",
        ),
        ({"proxies": ["macs"], "data": "random"}, "data='random' has no use here: no proxy looks at such images"),
        ({"proxies": ["jacov"], "input": "digits"}, "input='digits' has no use here: no proxy looks at such images"),
        ({"archs": "index:1,1,1,1,1,1", "archs_seed": 3}, "archs_seed=3 has no use without archs=sample:N"),
        ({"overwrite": True, "retry_failed": True}, "retry_failed=True has no use with overwrite"),
        ({"oracle": None, "top_k": 3}, "top_k=3 has no use with oracle=null"),
        ({"rankings": []}, r"rankings=\[\] is not allowed: name at least one, or leave it out"),
        ({"proxies": [{"name": "vkdnw", "label": "status"}]}, "vkdnw cannot have the column 'status'"),
        ({"proxies": [{"name": "params", "label": "macs"}]}, "params cannot have the column 'macs'"),
        ({"proxies": ["vkdnw", {"name": "vkdnw", "alpha": 0.1}]}, r"'vkdnw' is given twice.*with a label"),
        (
            {"proxies": [{"name": "jacov", "images": "pictures"}]},
            r"images='pictures' is not known",
        ),
    ],
)
def test_wrong_images_are_refused_before_anything_is_written(tmp_path, more, text):
    with pytest.raises(UsageError, match=text):
        run(tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


def test_images_and_initialisation_are_each_proxys_own(tmp_path):
    """``auto`` is the definition's initialisation; labels tell variants of a proxy apart; random images have labels."""
    proxies = [
        "jacov",
        "snip",
        {"name": "jacov", "label": "jacov_random", "images": "images"},
        "zico",
        {"name": "zico", "label": "zico_kaiming", "init": "kaiming_normal"},
        {"name": "vkdnw", "label": "vkdnw_b2", "samples": 2},
    ]
    assert run(tmp_path / "auto", archs="sample:3", proxies=proxies) == 0
    assert run(tmp_path / "same", archs="sample:3", proxies=proxies, init="kaiming_normal") == 0
    assert run(tmp_path / "random", archs="sample:3", proxies=["jacov", "snip"], data="random") == 0
    auto, same, random = (read_table(tmp_path / name / "scores.csv").rows for name in ("auto", "same", "random"))
    assert "vkdnw_b2_decile_9" in auto[0].values
    for one, other, third in zip(auto, same, random, strict=True):
        assert one.values["jacov"] == other.values["jacov"] != one.values["jacov_random"]
        assert third.values["jacov"] == one.values["jacov_random"]
        assert one.values["zico_kaiming"] == other.values["zico_kaiming"] == other.values["zico"] != one.values["zico"]
        assert third.values["snip"] != one.values["snip"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"device='cuda' is not allowed: PyTorch finds no CUDA device"):
        run(tmp_path / "run", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu(folder, tmp_path):
    assert run(tmp_path / "run", archs="sample:20", seeds="1..2", device="cuda") == 0
    cpu, cuda = (read_table(path / "scores.csv").rows for path in (folder, tmp_path / "run"))
    for one, other in zip(cpu, cuda, strict=True):
        assert one.values["macs"] == other.values["macs"]
        if one.values["vkdnw"] is not None:
            assert other.values["vkdnw"] == pytest.approx(one.values["vkdnw"], rel=1e-3)


def test_a_file_as_run_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        run(tmp_path / "run")


def test_a_first_table_while_it_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "_FIRST_RESULTS_S", 0)
    monkeypatch.setattr(command, "_FEWEST_ROWS", 5)
    assert run(tmp_path / "run", archs="sample:9", proxies=["macs"], progress=True) == 0
    output, progress = capsys.readouterr()
    assert progress.count("PARTIAL, of the first 5 rows") == 1
    assert "made_up, n = 4" in progress or "made_up (unspecified), n = 4" in progress
    assert "PARTIAL" not in output

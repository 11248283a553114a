"""Files that name an architecture, and the ranks of the networks in them."""

import json

import pytest
import timm

import vkdnw_pl.networks.timm_models  # noqa: F401  (registers vkdnw_mbv2)
from vkdnw_pl import cli
from vkdnw_pl.networks.arch_file import is_arch_file, read_arch_file
from vkdnw_pl.scoring.archs import resolve_archs
from vkdnw_pl.spaces.mbv2 import MBV2
from vkdnw_pl.spaces.resolve import resolve_arch

TOP = [
    {"arch": "mbv2_480m", "space": "mbv2", "network": {"use_se": True}, "num_classes": 10, "input_size": [3, 64, 64]},
    {"arch": "zico_450m", "space": "mbv2", "network": {}, "num_classes": 7, "input_size": [3, 32, 32]},
]


@pytest.fixture
def found(tmp_path):
    file = tmp_path / "of#1.json.d" / "found.json"
    file.parent.mkdir()
    file.write_text(json.dumps({**TOP[0], "top": TOP}))
    return str(file)


@pytest.mark.parametrize(
    ("text", "is_file"),
    [
        ("a.json", True),
        (" a/b.json ", True),
        ("a.json#2", True),
        ("a.json#x", True),
        ("a.json5", False),
        ("a#2", False),
    ],
)
def test_what_names_a_file(text, is_file):
    assert is_arch_file(text) is is_file


def test_a_rank_is_one_network_with_its_own_options(found):
    second = read_arch_file(f"{found}#2")
    assert second.archs == ("zico_450m",)
    assert second.network == {}
    assert second.task == {"num_classes": 7, "image_size": 32, "in_channels": 3}
    assert read_arch_file(f"{found}#1").arch == read_arch_file(found).arch == "mbv2_480m"
    assert read_arch_file(found).archs == ("mbv2_480m", "zico_450m")


def test_a_file_of_one_network(tmp_path):
    file = tmp_path / "model.json"
    file.write_text(json.dumps(TOP[1]))
    assert read_arch_file(f"{file}#1").arch == "zico_450m"
    with pytest.raises(ValueError, match=r"model.json#2': # stands before a rank, 1 for the best; it lists 1 network"):
        read_arch_file(f"{file}#2")


@pytest.mark.parametrize("rank", ["0", "3", "", "-1", "two", "²"])
def test_no_such_rank(rank, found):
    with pytest.raises(ValueError, match=r"1 for the best; it lists 2 network\(s\)"):
        read_arch_file(f"{found}#{rank}")


@pytest.mark.parametrize("top", [[{"arch": 3}], [3], {"arch": "mbv2_480m"}, "mbv2_480m"])
def test_damaged(top, tmp_path):
    file = tmp_path / "found.json"
    file.write_text(json.dumps({**TOP[0], "top": top}))
    with pytest.raises(ValueError, match=r"is damaged|is no list"):
        read_arch_file(f"{file}#1")


def test_everywhere_an_architecture_is_named(found, capsys, tmp_path):
    zico = MBV2().validate("zico_450m")
    assert resolve_arch(f"{found}#2").arch == zico
    assert resolve_archs(f"{found}#2", MBV2(), lambda which: []).archs == [zico]
    assert timm.create_model("vkdnw_mbv2", arch=f"{found}#2").num_classes == 7
    out = tmp_path / "exported"
    assert cli.main(["export", f"{found}#2", "--untrained", "true", "--out", str(out)]) == 0
    assert json.loads((out / "model.json").read_text())["arch"] == zico
    assert cli.main(["export", f"{found}#3", "--untrained", "true", "--out", str(out)]) == 2
    assert "it lists 2 network(s)" in capsys.readouterr().err

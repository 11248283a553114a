"""Which networks are trained: found ones, random ones under the same budget, timm's, and given ones."""

import json
from functools import partial
from pathlib import Path

import pytest

from vkdnw_pl.labels import archs
from vkdnw_pl.labels.archs import ArchOptions, choose_archs
from vkdnw_pl.spaces import MBV2, NB201

FOUND = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"
SECOND = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_1x1~2|"
NETWORK = {"channels": 8, "cells": 1, "image_size": 16, "in_channels": 1}


def make_search(folder: Path, **budget) -> str:
    """A search's folder, as far as label reads it."""
    folder.mkdir()
    network = {"channels": 8, "cells": 1}
    entries = [
        {"arch": arch, "space": "nb201", "network": network, "input_size": [1, 16, 16]} for arch in (FOUND, SECOND)
    ]
    (folder / "found.json").write_text(json.dumps({**entries[0], "num_classes": 10, "top": entries}))
    settings = {"budget": {"counting": "true", **budget}, "network": NETWORK}
    (folder / "meta.json").write_text(json.dumps({"command": "search", "settings": settings}))
    return str(folder / "found.json")


def macs(arch: str) -> int:
    return NB201().cost(arch, **NETWORK).macs


def test_groups_in_the_order_of_the_list(tmp_path):
    found = make_search(tmp_path / "search")
    chosen = choose_archs(ArchOptions(archs=f"{found},timm:resnet18,{SECOND},random:2,{found}#2"))
    assert list(chosen.groups.items())[:3] == [(FOUND, "found"), ("timm:resnet18", "timm"), (SECOND, "given")]
    assert list(chosen.groups.values())[3:] == ["random", "random"]
    assert chosen.space == "nb201"
    assert chosen.network == {"channels": 8, "cells": 1}


def test_random_ones_cost_about_as_much_within_the_budget(tmp_path):
    found = make_search(tmp_path / "search", max_macs=round(macs(FOUND) * 1.02), max_params=60_000)
    options = ArchOptions(archs=[found, "random:12"], macs_tolerance=0.15)
    chosen = choose_archs(options)
    drawn = [arch for arch, group in chosen.groups.items() if group == "random"]
    assert len(drawn) == 12
    assert FOUND not in drawn
    assert all(0.85 * macs(FOUND) <= macs(arch) <= 1.02 * macs(FOUND) for arch in drawn)
    assert all(NB201().cost(arch, **NETWORK).num_params <= 60_000 for arch in drawn)
    assert choose_archs(options).groups == chosen.groups
    assert choose_archs(ArchOptions(archs=[found, "random:12"], macs_tolerance=0.15, archs_seed=1)) != chosen
    assert any("max_params 60,000" in note for note in chosen.notes)


def test_bounds_of_the_user_stand_above_those_of_the_search(tmp_path):
    found = make_search(tmp_path / "search")
    least, most = round(1.5 * macs(FOUND)), round(1.6 * macs(FOUND))
    chosen = choose_archs(ArchOptions(archs=f"{found},random:3", min_macs=least, max_macs=most))
    assert all(least <= macs(arch) <= most for arch, group in chosen.groups.items() if group == "random")


def test_too_many_random_ones_are_refused_with_what_was_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(archs, "Proposer", partial(archs.Proposer, max_tries=300))
    found = make_search(tmp_path / "search", min_macs=macs(FOUND), max_macs=macs(FOUND), max_params=55_362)
    with pytest.raises(ValueError, match=r"random:5000.*only \d+ networks were found.*break max_macs"):
        choose_archs(ArchOptions(archs=f"{found},random:5000"))


def test_a_recipe_for_another_space_lends_no_options_of_networks(tmp_path):
    found = make_search(tmp_path / "search")
    chosen = choose_archs(ArchOptions(archs=found, space=MBV2(), network={"use_se": True}))
    assert chosen.network == {"channels": 8, "cells": 1}
    assert "is for mbv2 and not used for nb201" in chosen.notes[0]
    same = choose_archs(ArchOptions(archs=found, space=NB201(), network={"channels": 4}))
    assert same.network == {"channels": 4, "cells": 1}


def test_timm_alone_is_a_space_of_its_own():
    chosen = choose_archs(ArchOptions(archs="timm:resnet18,timm:mobilenetv2_05*"))
    assert chosen.space == "timm_zoo"
    assert chosen.groups == {"resnet18": "timm", "mobilenetv2_050": "timm"}

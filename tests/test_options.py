"""What the options that several commands share allow."""

import os

import pytest

from vkdnw_pl.options import WandbOptions


def test_where_a_wandb_run_goes():
    parts = [
        (options.wandb_project, options.wandb_entity)
        for options in (WandbOptions(), WandbOptions(wandb=True), WandbOptions(wandb="p"), WandbOptions(wandb="us/p"))
    ]
    assert parts == [(None, None), (None, None), ("p", None), ("p", "us")]
    options = WandbOptions(wandb="us/mine", wandb_group="g", wandb_tags=["a", "b"])
    assert (options.wandb_group, options.wandb_tags) == ("g", ["a", "b"])


@pytest.mark.parametrize(
    ("wandb", "group", "tags", "text"),
    [
        (False, "g", [], "wandb_group='g' has no use without wandb"),
        (False, None, ["t"], r"wandb_tags=\['t'\] has no use without wandb"),
        ("a/b/c", None, [], "give true, PROJECT or ENTITY/PROJECT"),
        ("/b", None, [], "give true, PROJECT or ENTITY/PROJECT"),
        ("a/", None, [], "give true, PROJECT or ENTITY/PROJECT"),
        ("", None, [], "give true, PROJECT or ENTITY/PROJECT"),
        ("what?", None, [], "give true, PROJECT or ENTITY/PROJECT"),
        ("p" * 129, None, [], "at most 128"),
        (True, "", [], "wandb_group='' is not allowed"),
        (True, None, ["t" * 65], "1 to 64 characters"),
    ],
)
def test_wandb_options_that_are_not_allowed(wandb, group, tags, text):
    with pytest.raises(ValueError, match=text):
        WandbOptions(wandb=wandb, wandb_group=group, wandb_tags=tags)


def test_a_run_folder_is_no_wandb_project(tmp_path):
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match="--wandb=true"):
        WandbOptions(wandb=str(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("WANDB_MODE", "onlin", "did you mean 'online'"),
        ("WANDB_INIT_TIMEOUT", "soon", "a number above 0"),
        ("WANDB_FINISH_TIMEOUT", "0", "a number above 0"),
        ("WANDB_FINISH_TIMEOUT", "inf", "at most 86400"),
    ],
)
def test_the_environment_is_checked_where_wandb_is_asked_for(monkeypatch, variable, value, allowed):
    monkeypatch.setitem(os.environ, variable, value)
    WandbOptions()
    with pytest.raises(ValueError, match=f"{variable}=.* is not .*{allowed}"):
        WandbOptions(wandb=True)

import os
import subprocess
import sys

import pytest
from wandb_records import no_account

from vkdnw_pl.runs.folder import RunFolder, remove_wandb
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.tracking.options import WandbOptions, has_key, wandb_options, with_bare_switch
from vkdnw_pl.tracking.place import run_id, use_folder
from vkdnw_pl.training.folder import TrainingFolder


@pytest.fixture(autouse=True)
def clean(tmp_path):
    with no_account(str(tmp_path)):
        del os.environ["NETRC"]
        yield


def asked(wandb, group=None, tags=()):
    return wandb_options({"wandb": wandb, "wandb_group": group, "wandb_tags": list(tags)})


def test_where_a_run_goes():
    assert asked(False) is None
    assert asked(True) == WandbOptions()
    assert asked("mine") == WandbOptions(project="mine")
    assert asked("us/mine", "g", ["a", "b"]) == WandbOptions("mine", "us", "g", ("a", "b"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((False, "g"), "wandb_group='g' has no use without wandb"),
        ((False, None, ["t"]), r"wandb_tags=\['t'\] has no use without wandb"),
        (("a/b/c",), "give true, PROJECT or ENTITY/PROJECT"),
        (("/b",), "give true, PROJECT or ENTITY/PROJECT"),
        (("a/",), "give true, PROJECT or ENTITY/PROJECT"),
        (("",), "give true, PROJECT or ENTITY/PROJECT"),
        (("what?",), "give true, PROJECT or ENTITY/PROJECT"),
        (("p" * 129,), "at most 128"),
        ((True, ""), "wandb_group='' is not allowed"),
        ((True, None, ["t" * 65]), "1 to 64 characters"),
    ],
)
def test_what_is_not_allowed(given, text):
    with pytest.raises(ValueError, match=text):
        asked(*given)


def test_a_shard_is_no_project(tmp_path):
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match="--wandb=true"):
        asked(str(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value"),
    [("WANDB_MODE", "onlin"), ("WANDB_INIT_TIMEOUT", "soon"), ("WANDB_FINISH_TIMEOUT", "0")],
)
def test_the_environment_is_checked_where_it_counts(monkeypatch, variable, value):
    monkeypatch.setitem(os.environ, variable, value)
    assert asked(False) is None
    with pytest.raises(ValueError, match=f"{variable}='{value}' in the environment is not allowed"):
        asked(True)


def test_keys(tmp_path, monkeypatch):
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = https://wandb.here\n")
    assert not has_key()  # that key is of another server
    monkeypatch.setitem(os.environ, "WANDB_API_KEY", "0" * 40)
    assert has_key()


def test_bare_switch():
    assert with_bare_switch(["--wandb", "--out", "x", "--wandb"]) == ["--wandb=true", "--out", "x", "--wandb=true"]
    assert with_bare_switch(["--wandb", "p"]) == ["--wandb", "p"]


def test_a_folder_keeps_its_id_and_each_onlooker_has_one(tmp_path):
    first = run_id(tmp_path, "score")
    assert (tmp_path / "wandb_id").read_text() == first + "\n"
    assert run_id(tmp_path, "score") == first
    look = run_id(tmp_path, "evaluate")
    assert look != first
    assert run_id(tmp_path, "evaluate") == look
    assert len({first, look, run_id(tmp_path, "test")}) == 3


def test_the_environment_may_name_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "WANDB_RUN_ID", "mine")
    assert run_id(tmp_path, "score") == "mine"


@pytest.mark.parametrize("kind", [RunFolder, SearchFolder, TrainingFolder])
def test_overwrite_begins_another_run(kind, tmp_path):
    first = run_id(tmp_path, "fit")
    (tmp_path / "wandb").mkdir()
    kind(tmp_path).clear()
    assert not (tmp_path / "wandb").exists()
    assert run_id(tmp_path, "fit") != first


def test_a_folder_wandb_of_other_origin_stays(tmp_path):
    (tmp_path / "wandb").mkdir()
    remove_wandb(tmp_path)
    assert (tmp_path / "wandb").exists()


def test_what_the_user_says_of_folders_holds(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "WANDB_CACHE_DIR", "/elsewhere")
    with use_folder(tmp_path):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path)
        assert os.environ["WANDB_CACHE_DIR"] == "/elsewhere"
    assert "WANDB_DATA_DIR" not in os.environ


def test_wandb_is_imported_only_where_it_is_asked_for():
    names = "score, search, evaluate, merge, export"
    code = f"import sys; from vkdnw_pl.commands import {names}; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

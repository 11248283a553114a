import os

import pytest

from vkdnw_pl.training.tracking import has_key, prepare_wandb


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    for name in [one for one in os.environ if one.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def logger(**arguments):
    return {"class_path": "pytorch_lightning.loggers.WandbLogger", "init_args": {"save_dir": ".", **arguments}}


def test_without_a_key_offline_and_said_once(tmp_path, capsys):
    given = [logger()]
    prepare_wandb(given, tmp_path / "run")
    assert os.environ["WANDB_MODE"] == "offline"
    assert capsys.readouterr().err.count("offline") == 1
    assert given[0]["init_args"]["save_dir"] == str(tmp_path / "run")
    assert given[0]["init_args"]["name"] == "run"


def test_a_continued_run_has_the_same_id_and_another_another(tmp_path):
    ids = []
    for name in ("run", "run", "other"):
        given = [logger()]
        prepare_wandb(given, tmp_path / name)
        ids.append(given[0]["init_args"]["id"])
    assert ids[0] == ids[1] != ids[2]


def test_what_the_user_says_holds(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(os.environ, "WANDB_API_KEY", "0" * 40)
    given = [logger(save_dir="here", id="mine", name="called")]
    prepare_wandb(given, tmp_path / "run")
    assert given[0]["init_args"] == {"save_dir": "here", "id": "mine", "name": "called"}
    assert "WANDB_MODE" not in os.environ
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [False, None, [], {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {}}]
)
def test_other_loggers_are_left_alone(given, tmp_path):
    prepare_wandb(given, tmp_path / "run")
    assert "WANDB_MODE" not in os.environ
    assert not (tmp_path / "run").exists()


def test_key_in_netrc(tmp_path):
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()

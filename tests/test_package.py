"""What users install: the wheel, the source distribution, and the names under which shipped files are found."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from vkdnw_pl import cli
from vkdnw_pl.errors import UsageError, program
from vkdnw_pl.runs import shipped
from vkdnw_pl.runs.shipped import shipped_configs, shipped_file, with_configs_first, with_shipped_configs

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "configs", "docs", "examples", "slurm", "tests", "vkdnw_pl")
FILES = ("LICENSE", "MANIFEST.in", "README.md", "mkdocs.yml", "pyproject.toml", ".ci/run")
FILES += ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", ".pre-commit-config.yaml")
_BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, in which building leaves its traces."""
    folder = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def build(source, kind, out):
    done = subprocess.run([sys.executable, "-c", _BUILD, kind, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build(source, "build_wheel", tmp_path_factory.mktemp("wheel"))


def files_in(folder, *names):
    return {
        file.relative_to(folder).as_posix() for name in names for file in (folder / name).rglob("*") if file.is_file()
    }


def test_the_wheel_holds_the_package_and_what_is_shipped_beside_it(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    beside = {name.partition(".data/data/share/vkdnw_pl/")[2] for name in names if ".data/data/" in name}
    assert {name for name in names if ".data/data/" not in name} == files_in(source, "vkdnw_pl")
    assert {name for name in beside if not name.startswith("benchmarks/")} == files_in(source, "configs", "slurm")
    for config in (source / "configs" / "paper").glob("*.yaml"):
        scores = yaml.safe_load(config.read_text())["scores"]
        tables = {scores} if isinstance(scores, str) else set(scores)
        assert tables <= beside, f"{config.name} names score tables that the wheel lacks"
    assert wheel.stat().st_size < 5_000_000


def test_the_source_distribution_holds_all(source, tmp_path):
    with tarfile.open(build(source, "build_sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_in(source, *FOLDERS) | set(FILES) <= names


@pytest.mark.parametrize("name", ["nb201", "nb201.yaml", "configs/nb201.yaml", "configs/nb201", "paper/table1"])
@pytest.mark.parametrize("flags", [["--config", "{}"], ["--config={}"], ["-c", "{}", "--out", "x"]])
def test_a_shipped_config_is_found_by_name_from_any_folder(name, flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = name.removeprefix("configs/").removesuffix(".yaml")
    expected = [flag.format(ROOT / "configs" / f"{short}.yaml") for flag in flags]
    assert with_shipped_configs([flag.format(name) for flag in flags]) == expected


def test_a_local_file_of_that_name_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("nb201").write_text("batch_size: 3\n")
    assert cli.main(["score", "--config", "nb201", "--print_config"]) == 0
    assert "batch_size: 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nb21", "did you mean 'nb201'?"),
        ("../x", "shipped are autoformer, digits_quick, "),
        ("/configs/nb201.yaml", "does not exist"),
    ],
)
def test_a_config_that_does_not_exist(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("score", "fit"):
        with pytest.raises(UsageError, match="config file") as error:
            with_shipped_configs([f"--config={name}"])
        assert text in str(error.value)
        assert cli.main([command, "--config", name]) == 2


def test_an_installation_finds_what_lies_beside_it(tmp_path, monkeypatch):
    """Not the checkout of somebody who happens to work in one."""
    monkeypatch.setattr(shipped, "_AROUND", tmp_path)
    file = tmp_path / "configs" / "paper" / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("")
    place = (("configs", "paper", "own.yaml"), file)
    monkeypatch.setattr(shipped, "_installed_files", lambda: [place])
    assert shipped_configs() == ["paper/own"]
    assert shipped_file("configs/paper/own.yaml") == file
    assert shipped_file("configs/nb201.yaml") is None


@pytest.mark.parametrize(
    ("called", "name"), [("/opt/bin/vkdnw", "vkdnw"), ("C:/x/vkdnw.exe", "vkdnw"), ("x/__main__.py", "")]
)
def test_texts_say_what_was_typed(called, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [called])
    name = name or "python -m vkdnw_pl"
    assert program() == name
    assert cli.main([]) == 2
    assert f"usage: {name} COMMAND" in capsys.readouterr().out
    assert cli.main(["score", "--bach_size", "3"]) == 2
    assert capsys.readouterr().err.startswith(f"{name} score: error: ")


@pytest.mark.slow
def test_an_installed_wheel_works_from_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    empty.mkdir()

    commands = [
        ("score", "--config", "nb201", "--print_config"),
        ("score", "--config", "nb201", "--out", "x", "--launch", "slurm", "--array", "2", "--dry_run"),
        ("fit", "--config", "configs/digits_quick.yaml", "--print_config"),
        ("evaluate", "--config", "paper/fig2"),
    ]
    script = f"from vkdnw_pl.cli import main\nfor command in {commands!r}:\n    print(main(command))"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    outputs = []
    for call in ([str(site / "bin" / "vkdnw"), "score", "--help"], [sys.executable, "-c", script]):
        done = subprocess.run(call, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0].startswith("usage: vkdnw score ")
    for text in ("archs: auto", "score_array.sbatch", "max_epochs: 12", "results in runs/paper-fig2"):
        assert text in outputs[1]
    assert [line for line in outputs[1].splitlines() if line.isdigit()] == ["0"] * len(commands)


def test_options_win_over_config_files_wherever_they_stand():
    given = ["runs/a", "more", "--data", "pics", "--config", "a.yaml", "--lr=1", "-c=b.yaml", "--overwrite", "--config"]
    first = ["runs/a", "more", "--config", "a.yaml", "-c=b.yaml", "--config", "--data", "pics", "--lr=1", "--overwrite"]
    assert with_configs_first(given) == first
    assert with_configs_first(["runs/a"]) == ["runs/a"]

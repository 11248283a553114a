"""Links, figures and commands of the README and of the documentation.

Every command in a block, or in the text where it is complete, is read by the command's own parser, so that an option that
was renamed fails here; the pages of ``RUN`` are done step by step, with the cheaper options of ``CHEAPER`` behind theirs.
A block that nobody reads or runs must be excused in ``EXCUSED``.
"""

import json
import os
import random
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

import vkdnw_pl
from vkdnw_pl import cli
from vkdnw_pl.spaces import SPACES

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "configs/README.md",
        ROOT / "slurm/README.md",
    )
)
RUN = {"docs/tutorials/check_a_proxy.md", "docs/tutorials/small_network.md"}
"""Pages whose commands run, one after the other; of the others they are read."""
CHEAPER = {
    "score": "--archs sample:6 --oracle digits --network auto --batch_size 4 --workers 1 --progress false",
    "evaluate": "",
    "search": "--evaluations 6 --population 4 --batch 4 --batch_size 2 --workers 1 --figures false --progress false "
    "--network {image_size:\\ 32} --max_macs 6M",
    "label": "--seeds 1 --workers 1 --progress false --data.batch_size 8 --trainer.limit_train_batches 2 "
    "--model.schedule.warmup_epochs 0 --trainer.max_epochs 1",
    "fit": "--data.batch_size 8 --trainer.limit_train_batches 2 --model.schedule.warmup_epochs 0 --trainer.max_epochs 1",
    "predict": "",
    "export": "",
    "report": "",
}
"""Command -> options that make it cheap; one that is not here is read, never run."""
ONLY_READ = {
    "configs/paper/": "tests/report runs the paper's tables; here models would be trained",
    "configs/timm_zoo": "needs accuracies that are not part of the package",
    "--launch": "submits jobs; read with --dry_run",
}
"""Part of a command -> why it does not run on a page of `RUN`."""
EXCUSED = {
    "wandb": "another program",
    "cd": "another program",
    "sbatch": "tests/cluster/test_batch_scripts.py calls the scripts",
    "export": "sets a variable of the shell",
    "mkdocs": "test_the_site_builds",
}
"""First word of a line -> who tries it, or why nobody does."""
PYTHON_ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "docs/add_a_proxy.md": "tests/test_add_a_proxy.py",
    "docs/add_a_space.md": "tests/test_add_a_space.py",
    "docs/from_search_to_use.md": "tests/test_quick_chain.py",
}
"""Page -> who runs its Python."""
EXCUSED_PYTHON = {"docs/wandb.md": "reads a run of W&B; tests/tracking reads some with the same command"}
FILLED_IN = {"DIR": "pictures", "RUN": "runs/quick_chain/fit"}
"""What stands for a reader's own -> what it is here."""
BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)
FOUND = {"arch": "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|", "space": "nb201"}


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page):
    return BLOCK.sub("", text_of(page))


def lines_of(code):
    """Commands of a shell block, as words."""
    for line in code.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            if words := shlex.split(part, comments=True):
                yield [FILLED_IN.get(word, word) for word in words]


def inline_commands(page):
    """Commands within the text, but for those with a place to fill in (``COMMAND``, ``RUNS...``)."""
    for code in re.findall(r"`((?:python -m vkdnw_pl|vkdnw) [^`]+)`", prose_of(page)):
        if not re.search(r"\b[A-Z]{2,}\b|\.\.\.", code):
            yield shlex.split(code)


def arguments_of(words):
    """What stands behind the name of the program, or None where it is another one."""
    if words[:3] == ["python", "-m", "vkdnw_pl"]:
        return words[3:]
    return words[1:] if words[0] == "vkdnw" else None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout's folders, some pictures, and what a search would have left."""
    for name in ("configs", "examples", "benchmarks", "slurm", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "list.txt").write_text("\n".join(SPACES["mbv2"].sample(random.Random(seed)) for seed in range(1000)))
    pixels = np.random.default_rng(0)
    for place in [*(f"pictures/{name}" for name in ("cat", "dog", "owl")), "new"]:
        (tmp_path / place).mkdir(parents=True)
        for number in range(28):  # of 84 a fifth is held out, and NASWOT looks at 64
            picture = Image.fromarray(pixels.integers(0, 255, (40, 48, 3), dtype=np.uint8))
            picture.save(tmp_path / place / f"picture {number}.png")
    top = [{"rank": rank + 1, **FOUND} for rank in range(5)]
    for run in ("s", "search"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "found.json").write_text(json.dumps({**FOUND, "top": top}))
    trained = tmp_path / "runs" / "quick_chain" / "fit"
    trained.mkdir(parents=True)
    (trained / "meta.json").write_text('{"command": "fit"}')
    shutil.copy(ROOT / "configs" / "digits_quick.yaml", trained / "config.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VKDNW_SLURM_DIR", str(ROOT / "slurm"))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def read_command(arguments, capsys):
    """Has the command's own parser read them."""
    if any(word.endswith("help") for word in arguments):
        pass
    elif "--launch" in arguments:
        # The published accuracies may not be on this machine, and a launch looks for them.
        known = ["--oracle", "digits"] if "--oracle" in arguments else []
        arguments = [*arguments, *known, *(["--dry_run"] if "--dry_run" not in arguments else [])]
    elif "--print_config" not in arguments:
        arguments = [*arguments, "--print_config"]
    code = cli.main(arguments)
    assert code == 0, f"{shlex.join(arguments)}\n{capsys.readouterr().err}"


def try_line(words, page, capsys):
    arguments = arguments_of(words)
    if arguments is not None:
        options = CHEAPER.get(arguments[0])
        is_only_read = any(part in " ".join(words) for part in ONLY_READ)
        if page not in RUN or options is None or is_only_read:
            read_command(arguments, capsys)
        else:
            code = cli.main([*arguments, *shlex.split(options)])
            assert code == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert all(extra in extras for extra in re.findall(r"\[(.+?)\]", " ".join(words)) for extra in extra.split(","))
    elif words[:2] == ["python", "-m"]:
        module = ROOT / words[2].replace(".", "/")
        assert words[2] == "pytest" or module.with_suffix(".py").is_file(), words
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), words
    elif words[0] == "bash":
        script = Path(words[1]).name
        tests = [test for test in (ROOT / "tests").glob("test_*.py") if script in test.read_text(encoding="utf-8")]
        assert tests, f"{page}: nobody runs {words[1]}"
        assert (ROOT / words[1]).is_file(), words
    else:
        assert words[0] in EXCUSED, f"{page}: nobody runs {shlex.join(words)}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_tried(page, folder, capsys):
    if page in RUN:  # which make their own
        shutil.rmtree(folder / "runs")
    names = {}
    for language, title, code in BLOCK.findall(text_of(page)):
        if title and "/" not in title and "." in title:
            (folder / title).write_text(code, encoding="utf-8")
        if language == "bash":
            for words in lines_of(code):
                try_line(words, page, capsys)
        elif language == "python":
            if page in PYTHON_ELSEWHERE:
                assert Path(page).name in text_of(PYTHON_ELSEWHERE[page])
            elif page in EXCUSED_PYTHON:
                compile(code, page, "exec")
            elif title:
                runpy.run_path(title)
            else:
                exec(compile(code, page, "exec"), names)
        elif language == "yaml":
            yaml.safe_load(code)
        elif language == "toml":
            tomllib.loads(code)
        else:
            assert language in ("", "text"), f"{page}: nobody runs a block of {language}"
    for words in inline_commands(page):
        read_command(arguments_of(words), capsys)


def anchors(text):
    """Ids of a page's headings, as Markdown makes them."""
    for heading in re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE):
        yield re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_what_is_there(page):
    for link, _, anchor in re.findall(
        r"\]\(((?!\w+:)[^)#\s]*)(#?)([^)\s]*)\)", re.sub(r"`[^`\n]*`", "", prose_of(page))
    ):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in list(anchors(target.read_text(encoding="utf-8"))), f"{link}#{anchor}"


def test_every_page_and_every_benchmark_can_be_found():
    nav = (ROOT / "mkdocs.yml").read_text()
    hidden = [page for page in PAGES if page.startswith("docs/") and f" {page.removeprefix('docs/')}" not in nav]
    assert not hidden, "not in mkdocs.yml's nav"
    pages = "".join(map(text_of, PAGES))
    names = [path.parent.name for path in (ROOT / "benchmarks").glob("*/README.md")]
    assert not [name for name in names if not re.search(rf"\]\([./]*benchmarks/{name}(/README\.md)?\)", pages)]


def test_every_command_and_every_public_name_has_its_place():
    commands, api = text_of("docs/commands.md"), text_of("docs/api.md")
    assert not [name for name in cli.COMMANDS if not re.search(rf"^\| .*`{name}`.* \|", commands, re.MULTILINE)]
    names = {*vkdnw_pl.__all__} - {"__version__"}
    assert not [name for name in names if f"::: vkdnw_pl.{name}\n" not in api]


def test_table_of_proxies_is_that_of_the_registry():
    from vkdnw_pl.report.proxies import renewed

    text = text_of("docs/proxies.md")
    assert renewed(text) == text, "run: python -m vkdnw_pl.report.proxies docs/proxies.md"


def test_figures_are_those_of_the_tables():
    """But for places, which another version of matplotlib may choose."""
    draw = runpy.run_path(str(ROOT / "docs" / "figures" / "draw.py"))
    for name, figure in draw["FIGURES"].items():
        committed = ElementTree.parse(ROOT / "docs" / "figures" / f"{name}.svg").getroot()
        drawn = ElementTree.fromstring(draw["standing_alone"](figure()))
        texts, committed_texts = ([text for text in root.itertext() if text.strip()] for root in (drawn, committed))
        assert texts == committed_texts, "run: python docs/figures/draw.py"
        assert abs(len(list(drawn.iter())) - len(list(committed.iter()))) <= 2


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    mkdocs = pytest.importorskip("mkdocs.commands.build", reason="mkdocs is not installed (extra docs)")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed (extra docs)")
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path))
    mkdocs.build(config)
    page = (tmp_path / "index.html").read_text()
    assert not re.findall(r'(?:src|<link[^>]+href)="(https?:[^"]+)"', page), "loaded from other servers"
    assert "KendallTau" in (tmp_path / "api" / "index.html").read_text()
    assert os.path.getsize(tmp_path / "benchmarks" / "scale" / "index.html")


def test_tables_of_several_spaces_are_those_of_the_results():
    from vkdnw_pl.report.spaces_pages import RESULTS, renewed

    text = text_of("docs/trust.md")
    assert renewed(text, ROOT / RESULTS) == text, "run: python -m vkdnw_pl.report.spaces_pages docs/trust.md"

"""Every file in configs/ is read by its command, so that none can go stale."""

import random
from pathlib import Path

import pytest

from vkdnw_pl.cli import load_command, main
from vkdnw_pl.option_parser import CommandParser
from vkdnw_pl.options import as_config
from vkdnw_pl.report.paper.tables import PAPER_CHOICES
from vkdnw_pl.scoring.plan import ScoreOptions, parse_seeds
from vkdnw_pl.search.constraints import CostCheck

CONFIGS = Path(__file__).parents[1] / "configs"
COMMAND_OF = {
    **dict.fromkeys(("nb201.yaml", "nasbench_macro.yaml", "nats_sss.yaml", "autoformer.yaml", "pit.yaml"), "score"),
    **dict.fromkeys(("mbv2_search.yaml", "mbv2_search_cpu.yaml", "mbv2_search_quick.yaml"), "search"),
    "timm_zoo.yaml": "score",
    **dict.fromkeys(
        ("digits_quick.yaml", "small_data.yaml", "mbv2_imnet.yaml", "mbv2_imnet_150ep.yaml", "nb201_cifar10.yaml"),
        "fit",
    ),
    "spaces.yaml": "evaluate",
    **{f"paper/{name}.yaml": "evaluate" for name in PAPER_CHOICES},
}


@pytest.mark.parametrize("name", sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")))
def test_is_read_by_its_command(name, capsys):
    assert name in COMMAND_OF, "say here which command reads this file"
    assert main([COMMAND_OF[name], "--config", str(CONFIGS / name), "--print_config"]) == 0
    assert capsys.readouterr().out
    assert f"`{Path(name).name}`" in (CONFIGS / "README.md").read_text()


def test_default_config_holds_the_defaults():
    options = CommandParser(load_command("score"), "test").parse(["--config", str(CONFIGS / "nb201.yaml")])
    assert as_config(options) | {"seeds": parse_seeds(options.seeds)} == as_config(ScoreOptions()) | {
        "seeds": parse_seeds(ScoreOptions.seeds)
    }


def test_cpu_search_has_the_papers_budget():
    parser = CommandParser(load_command("search"), "test")
    paper, cpu = (parser.parse(["--config", str(CONFIGS / f"mbv2_search{name}.yaml")]) for name in ("", "_cpu"))
    space, rng = paper.search_space, random.Random(0)
    archs = [space.sample(rng) for _ in range(50)]
    checks = (CostCheck(options.budget, space, options.network_options) for options in (paper, cpu))
    refused, refused_by_cpu = ([isinstance(check(arch), str) for arch in archs] for check in checks)
    assert refused == refused_by_cpu
    assert 0 < sum(refused) < len(archs)

"""Everything that reads text or files of strangers gives a value or one line that says why not."""

import pytest
from fuzz_targets import TARGETS, answer
from hypothesis import HealthCheck, given, settings

from vkdnw_pl import oracles


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_ends_in_a_traceback(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VKDNW_CACHE", str(folder / "cache"))
    assert oracles.cache_dir() == folder / "cache"

    @settings(
        max_examples=3 * TARGETS[name].share,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(TARGETS[name].inputs)
    def check(value):
        answer(TARGETS[name], value, folder)

    check()

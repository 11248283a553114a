import pytest

from vkdnw_pl.scoring.space_tables import SpaceTable, rankings_of, read_space_tables, space_sources, weight_notes

ARCHS = [
    "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    (tmp_path / "scores.csv").write_text("arch,macs\n" + "".join(f"{arch},{i}\n" for i, arch in enumerate(ARCHS)))
    (tmp_path / "more.csv").write_text("arch,zen\n" + "".join(f"{arch},{i}\n" for i, arch in enumerate(ARCHS)))
    (tmp_path / "known.csv").write_text(
        "arch,mine,other\n" + "".join(f"{arch},{90 - i},5\n" for i, arch in enumerate(ARCHS))
    )
    monkeypatch.setenv("VKDNW_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def read(**spaces):
    return read_space_tables(space_sources(spaces))


@pytest.mark.parametrize(
    ("spaces", "text"),
    [
        ({}, "give at least one"),
        ({"nb201": "a.csv"}, "spaces: nb201='a.csv' is not allowed: give '{scores"),
        ({"nb201": {"score": "a.csv"}}, "spaces: nb201: option='score' is not known; did you mean 'scores'?"),
        ({"nb201": {"oracle": "nb201"}}, "spaces: nb201 has no scores"),
        ({"nb201": {"scores": []}}, r"spaces: nb201: scores=\[\] is not allowed"),
        ({"nb201": {"scores": "a.csv", "oracle": 3}}, "spaces: nb201: oracle=3 is not allowed: give a text"),
        ({"nb21": {"scores": "a.csv"}}, "spaces: nb21: .*nb201.*; say with space which search space this is"),
        ({"mine": {"scores": "a.csv", "space": "nb21"}}, "spaces: mine: .*did you mean 'nb201'"),
        ({"nb201": {"scores": "a.csv", "datasets": "a"}}, "spaces: nb201: a.csv"),
    ],
)
def test_entries_that_are_refused(files, spaces, text):
    with pytest.raises(ValueError, match=text):
        read(**spaces)


def test_tables_are_joined_and_data_sets_chosen(files):
    ((space,), left_out) = read(
        mine={"space": "nb201", "scores": ["scores.csv", "more.csv"], "oracle": "known.csv", "datasets": "mine"}
    )
    assert space.table.columns == ("macs", "zen")
    assert space.datasets == ("mine",)
    assert left_out == {}
    with pytest.raises(ValueError, match="spaces: nb201: datasets='min' is not known; did you mean 'mine'"):
        read(nb201={"scores": "scores.csv", "oracle": "known.csv", "datasets": ["min"]})


def test_a_space_whose_accuracies_are_not_here_is_left_out(files):
    there = {"scores": "scores.csv", "oracle": "known.csv", "space": "nb201"}
    absent = {"scores": "scores.csv", "oracle": "nb201", "space": "nb201"}
    tables, left_out = read(mine=there, nb201=absent)
    assert [space.name for space in tables] == ["mine"]
    assert list(left_out) == ["nb201"]
    assert "download nb201" in left_out["nb201"]
    with pytest.raises(ValueError, match=r"none of them are here .*nb201: .*download nb201"):
        read(nb201=absent)


def test_rankings_of_the_tables(files):
    ((one, two), _) = read(
        one={"space": "nb201", "scores": "scores.csv", "oracle": "known.csv"},
        two={"space": "nb201", "scores": "more.csv", "oracle": "known.csv"},
    )
    assert isinstance(one, SpaceTable)
    assert rankings_of([one, two], ["macs"]) == {"macs": {"one": ("macs",), "two": "the table has no column macs"}}
    assert list(rankings_of([one, two], None)) == ["macs", "zen"]
    with pytest.raises(ValueError, match="ranking 'mac' is in no table; did you mean 'macs'"):
        rankings_of([one, two], ["macs", "mac"])
    assert set(rankings_of([one, two], ["macs", "mac"], complete=False)["mac"]) == {"one", "two"}
    with pytest.raises(ValueError, match=r"ranking='macs\+' has an empty name"):
        rankings_of([one, two], ["macs+"])


def test_weights_by_agreement_are_said_for_each_space(files):
    ((one, two), _) = read(
        one={"space": "nb201", "scores": ["scores.csv", "more.csv"], "oracle": "known.csv"},
        two={"space": "nb201", "scores": "more.csv", "oracle": "known.csv"},
    )
    rankings = rankings_of([one, two], ["macs+zen", "agreement(macs+zen)", "zen"])
    (note,) = weight_notes([one, two], rankings)
    assert note == "one: agreement(macs+zen) weighs its terms by their agreement here: macs 0.50, zen 0.50"

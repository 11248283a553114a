from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Union

import pytest
import yaml

from vkdnw_pl.errors import UsageError, check_whole
from vkdnw_pl.option_parser import CommandParser, describe_options
from vkdnw_pl.options import OptionGroup


@dataclass
class Command:
    """Do something.

    It is
    good.
    """

    what: str
    """The thing."""
    number: int = 3
    """How
    many."""
    items: list[str | dict[str, Any]] = field(default_factory=lambda: ["a"])
    """Things."""
    options: dict[str, Any] | None = None
    """More."""
    choice: Literal["auto", "none"] = "auto"
    """One of two."""
    either: int | Literal["auto"] = "auto"
    """A number, or not."""
    switch: bool = False
    """On."""


PARSER = CommandParser(Command, "python -m it")


def parse(*arguments: str) -> dict[str, Any]:
    return vars(PARSER.parse(["thing", *arguments]))


def test_defaults():
    assert parse() == {
        "what": "thing",
        "number": 3,
        "items": ["a"],
        "options": None,
        "choice": "auto",
        "either": "auto",
        "switch": False,
    }


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--number", "4"], "number", 4),
        (["--number=4"], "number", 4),
        (["--items", "[b, {name: c, d: 0.1}]"], "items", ["b", {"name": "c", "d": 0.1}]),
        (["--items+", "b"], "items", ["a", "b"]),
        (["--options", "{x: 1}"], "options", {"x": 1}),
        (["--options.x", "1"], "options", {"x": 1}),
        (["--either", "2"], "either", 2),
        (["--switch"], "switch", True),
        (["--switch", "--number", "3"], "switch", True),
        (["--switch", "false"], "switch", False),
        (["--switch=true"], "switch", True),
    ],
)
def test_values(arguments, name, value):
    assert parse(*arguments)[name] == value


def test_options_may_be_spelled_with_hyphens():
    @dataclass
    class Spelled:
        what: str
        top_k: int = 1
        on_top: bool = False

    parser = CommandParser(Spelled, "python -m it")
    assert parser.parse(["a-b", "--top-k", "3", "--on-top"]) == Spelled("a-b", 3, True)
    assert parser.parse(["a", "--top-k=3"]).top_k == 3
    with pytest.raises(UsageError, match="--top-x"):
        parser.parse(["a", "--top-x", "3"])


def test_several_places():
    @dataclass
    class Several:
        paths: list[str]
        number: int = 3

    parser = CommandParser(Several, "python -m it")
    assert parser.parse(["a", "b", "--number", "1"]) == Several(["a", "b"], 1)
    with pytest.raises(UsageError):
        parser.parse([])


def test_a_run_folder_is_not_the_value_of_a_bare_switch(tmp_path):
    @dataclass
    class Look:
        scores: list[str]
        wandb: bool | str = False

    folder = str(tmp_path)
    parser = CommandParser(Look, "prog")
    assert parser.parse(["run", "--wandb", folder]).wandb == folder
    (tmp_path / "meta.json").touch()
    assert parser.parse(["--wandb", folder]) == Look([folder], True)


def test_config_file_and_what_follows_it(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("number: 7\nitems: [x]\n")
    assert parse("--config", str(config))["number"] == 7
    assert parse("-c", str(config), "--number", "8")["number"] == 8
    assert parse(f"--config={config}")["items"] == ["x"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--numbr", "3"], "option '--numbr' is not known; did you mean '--number'"),
        (["--num", "3"], "option '--num' is not known; did you mean '--number'"),
        (["--swi"], "option '--swi' is not known; did you mean '--switch'"),
        (["--zzz", "3"], "option '--zzz' is not known; known: -h, --help, "),
        (["--number.x", "3"], "."),
        (["--number", "many"], "number=many is not allowed: it takes a whole number"),
        (["--number", "1.5"], "number=1.5 is not allowed: it takes a whole number"),
        (["--choice", "both"], "choice=both is not allowed: it takes auto or none"),
        (["--either", "x"], "either=x is not allowed: it takes a whole number or auto"),
        (["--items", "b"], r"items=b is not allowed: it takes a list such as '\[a, b\]'"),
        (["--options", "3"], "options=3 is not allowed: it takes options such as '{name: value}'"),
        (["--switch", "maybe"], "switch=maybe is not allowed: it takes true or false"),
        (["--number"], "--number"),
        (["more"], "more"),
        (["--config"], "--config"),
        (["--config", "nowhere.yaml"], "config file 'nowhere.yaml' does not exist"),
    ],
)
def test_errors(arguments, text):
    with pytest.raises(UsageError, match=text) as error:
        parse(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("numbr: 3\n", "option 'numbr' is not known; did you mean 'number'"),
        ("number: many\n", "number=many is not allowed: it takes a whole number"),
        ("- number\n", "must hold 'option: value' lines"),
        ("", "must hold 'option: value' lines"),
        ("number: [\n", "is not YAML"),
        (b"\xff\xfe", "c.yaml, line 1 is damaged: it is not UTF-8 text"),
        ("number: 3\nchoice: none\nnumber: 4\n", "c.yaml, line 3 is damaged: 'number' stands there a second time"),
        ("number: " + "[" * 3000, "c.yaml, line 1 is damaged: it is nested more than 100 times"),
    ],
)
def test_errors_in_config_files(tmp_path, content, text):
    config = tmp_path / "c.yaml"
    config.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=text):
        parse("--config", str(config))


@pytest.mark.parametrize("form", [["--options", "{a: 1, a: 2}"], ["--options={a: 1, a: 2}"]])
def test_no_name_comes_twice_in_a_value(form):
    with pytest.raises(UsageError, match="options is not allowed: 'a' stands there a second time"):
        parse(*form)


def test_help(capsys):
    with pytest.raises(SystemExit) as done:
        PARSER.parse(["--help"])
    assert not done.value.code
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m it WHAT [--config FILE] [OPTIONS]\n\nDo something.")
    assert "How many. [default: 3]" in text
    assert "--choice {auto,none}" in text
    assert "[default: [a]]" in text
    assert "Optional[" not in text


def test_printed_config_reads_back(capsys, tmp_path):
    with pytest.raises(SystemExit):
        parse("--number", "9", "--print_config")
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["number"] == 9
    (tmp_path / "c.yaml").write_text(text)
    assert PARSER.parse(["--config", str(tmp_path / "c.yaml"), "thing"]).number == 9


@dataclass(frozen=True, kw_only=True)
class Colours(OptionGroup):
    """How it looks. And more."""

    colour: str = "red"
    """Colour of
    all."""
    width: int = 1
    """Width."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("width", self.width, 1)


@dataclass(frozen=True, kw_only=True)
class Painting(Colours):
    """A command's options."""

    what: str
    """The thing."""
    layers: list[int] = field(default_factory=lambda: [1, 2])
    """Layers."""
    colour: str = "blue"


def paint(options: Painting) -> int:
    """Paint something."""
    return 0


def test_options_of_a_dataclass():
    parser = CommandParser(paint, "python -m it")
    assert parser.parse(["wall", "--width", "3"]) == Painting(what="wall", width=3)
    assert parser.parse(["wall"]).layers == [1, 2]
    with pytest.raises(UsageError, match="width=0 is not allowed: give a whole number of at least 1"):
        parser.parse(["wall", "--width", "0"])
    with pytest.raises(UsageError, match="did you mean '--colour'"):
        parser.parse(["wall", "--color", "red"])


def test_inherited_options_stand_in_their_group_with_the_subclass_default():
    described = {option.name: option for option in describe_options(Painting)}
    assert list(described) == ["what", "layers", "colour", "width"]
    assert (described["colour"].default, described["colour"].help) == ("blue", "Colour of all.")
    assert [option.group for option in described.values()] == ["", "", "How it looks", "How it looks"]


def test_every_shared_option_has_a_text():
    for group in OptionGroup.__subclasses__():
        if group.__module__ == OptionGroup.__module__:
            assert all(option.help for option in describe_options(group)), group


def test_a_whole_number_stays_one_where_other_numbers_or_text_are_allowed():
    """Whatever the order in which the types are written, and although typing keeps one union for all orders."""

    @dataclass
    class Share:
        first: Union[float, int] = 0  # noqa: UP007
        second: Optional[Union[int, float]] = None  # noqa: UP007, UP045
        third: str | int = ""
        fourth: str | float | int | None = None

    names = ("first", "second", "third", "fourth")
    parser = CommandParser(Share, "share")
    for text, kinds in (("1", [int] * 4), ("1.0", [float, float, str, float]), ("1e3", [float, float, str, float])):
        options = parser.parse([f"--{name}={text}" for name in names])
        assert [type(getattr(options, name)) for name in names] == kinds, text


def test_an_option_with_a_default_can_be_given_by_its_place():
    @dataclass
    class Evaluate:
        """Do something."""

        tables: str | list[str] = field(default_factory=list, metadata={"by_place": True})
        """Where."""

    parser = CommandParser(Evaluate, "python -m it")
    assert parser.parse([]).tables == []
    assert parser.parse(["a.csv"]).tables == "a.csv"
    assert parser.parse(["[a.csv, b.csv]"]).tables == ["a.csv", "b.csv"]
    with pytest.raises(UsageError):
        parser.parse(["a.csv", "b.csv"])

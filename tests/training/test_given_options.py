"""The options of a training as they are read from the sources: the parser's, and wrong ones are refused in no time."""

import re
import subprocess
import sys

import pytest

from vkdnw_pl import cli
from vkdnw_pl.data import DATA_MODULES
from vkdnw_pl.training.cli import TrainingCLI
from vkdnw_pl.training.given_options import check_given, data_arguments, known_options
from vkdnw_pl.training.option_errors import class_arguments


class Stop(Exception):
    pass


@pytest.mark.parametrize("command", ["fit", "validate", "predict"])
def test_the_names_are_those_of_the_parser(command, monkeypatch):
    names = set()

    def parse_arguments(self, parser, args):
        names.update(action.dest for action in self._parser(command)._actions if action.option_strings)
        raise Stop

    monkeypatch.setattr(TrainingCLI, "parse_arguments", parse_arguments)
    monkeypatch.setattr(sys, "argv", ["vkdnw", command])
    with pytest.raises(Stop):
        TrainingCLI(command, f"vkdnw {command}")
    assert set(known_options(command)) == {name for name in names if name.rpartition(".")[2] != "help"}


@pytest.mark.parametrize("name", DATA_MODULES)
def test_the_arguments_of_data_modules_are_those_of_the_parser(name):
    assert set(data_arguments(name)) == set(class_arguments(f"vkdnw_pl.data.{DATA_MODULES[name]}.{name}"))


def test_a_wrong_option_is_answered_without_torch(tmp_path):
    code = (
        "import sys; from vkdnw_pl.cli import main; code = main(['fit', '--trainr.max_epochs', '3']); "
        "sys.exit(code if not {'torch', 'pytorch_lightning', 'timm'} & set(sys.modules) else 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "python -m vkdnw_pl fit: error: option '--trainr.max_epochs' is not known; did you mean '--trainer.max_epochs'?",
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model.archh", "x"], "option '--model.archh' is not known; did you mean '--model.arch'?"),
        (["--model.optimizer.lrr=1"], "option '--model.optimizer.lrr' is not known"),
        (["--data", "CIFAR10", "--data.batchsize", "3"], "option of CIFAR10 'batchsize' is not known"),
        (["--data={class_path: Digits, init_args: {batchsize: 3}}"], "option of Digits 'batchsize' is not known"),
        (["--config", "FILE"], "option 'trainer.max_epoch' is not known; did you mean 'trainer.max_epochs'?"),
        (["--config", "FILE", "--data.init_args.vals", "3"], "option of Synthetic 'vals' is not known"),
        (["--model", "{init: keep, archh: x}"], "option '--model.archh' is not known"),
        (["--data.seed", "3"], "data.seed comes from seed_everything"),
    ],
)
def test_wrong_options_are_named(arguments, text, tmp_path, capsys):
    file = tmp_path / "fit.yaml"
    last = "" if "--data.init_args.vals" in arguments else "trainer: {max_epoch: 3}\n"
    file.write_text(f"data: {{class_path: vkdnw_pl.data.Synthetic}}\n{last}")
    assert cli.main(["fit", *(str(file) if argument == "FILE" else argument for argument in arguments)]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.callbacks+", "ProxyCallback", "--trainer.callbacks.every_n_epochs", "2"],
        [
            "--trainer.callbacks.help",
            "EMA",
            "--data.help",
            "CIFAR10",
            "--model.teacher.name",
            "x",
            "--print_config=skip_null",
        ],
        ["--model.network.use_se", "true", "--data", "my_package.Mine", "--data.anything", "3", "--wandb", "--help"],
        ["--data", "Digits", "--data", "other.Digits", "--data.anything", "3"],
        ["--model.optimizer", "{name: lamb}", "--out", "runs/x", "--ckpt_path=last", "--test_after", "false"],
    ],
)
def test_what_the_parser_takes_is_left_to_it(arguments):
    check_given("fit", arguments)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["LearningRateFinder"], "LearningRateFinder is not for fit: what it finds would not stand in config.yaml"),
        (["BatchSizeFinder"], "BatchSizeFinder is not for fit: .* give --data.batch_size"),
        (["EMA", "EMA"], "trainer.callbacks has more than one EMA; one that a config file has is changed there"),
    ],
)
def test_callbacks_of_no_use_are_refused_in_a_sentence(names, text, tmp_path, capsys):
    options = ["--data", "Synthetic", "--model.arch", "resnet10t", "--out", str(tmp_path / "run")]
    options += [f"--trainer.callbacks+={name}" for name in names]
    assert cli.main(["fit", *options, "--trainer.accelerator", "cpu"]) == 2
    assert re.search(text, capsys.readouterr().err)

"""``--data DIR``: a folder of images, or a CSV file, in place of a data module."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from vkdnw_pl.data import DATA_MODULES
from vkdnw_pl.data.own_images import data_module_of, is_own_images
from vkdnw_pl.errors import UsageError


def with_image_folder(arguments: Sequence[str]) -> list[str]:
    """``--data DIR`` and ``--data=DIR`` as ``--data ImageFolder --data.root DIR``; other arguments as they are."""
    written: list[str] = []
    before = ""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag == "--data" and equals and _is_path(value):
            _put_before_options(written, value)
        elif before == "--data" and _is_path(argument):
            del written[-1]
            _put_before_options(written, argument)
        else:
            written.append(argument)
        before = argument
    return written


def _put_before_options(written: list[str], root: str) -> None:
    """Add the data module before those of its options that already stand there, which the parser could not place else."""
    place = len(written)
    for i in reversed(range(len(written))):
        if written[i].partition("=")[0] in ("-c", "--config"):
            break  # what it says of the data is to be replaced
        if written[i].startswith("--data."):
            place = i
    written[place:place] = ["--data=ImageFolder", f"--data.root={root}"]


def with_data_module(content: str) -> str:
    """A config file's text with the data module in place of ``data: DIR``."""
    try:
        options = yaml.safe_load(content)
    except yaml.YAMLError:
        return content  # as the parser will say
    if not isinstance(options, dict) or not isinstance(options.get("data"), str) or not _is_path(options["data"]):
        return content
    return yaml.safe_dump({**options, "data": data_module_of(options["data"])}, sort_keys=False)


def _is_path(value: str) -> bool:
    try:
        return is_own_images(value)
    except ValueError as error:
        raise UsageError(
            f"data={value!r} is not allowed: {error}; give a folder of images, a CSV file, or the name of a data module "
            f"({', '.join(DATA_MODULES)})"
        ) from None

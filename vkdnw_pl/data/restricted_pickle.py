"""Reads the pickled image batches of CIFAR and ImageNet16, and records of NATS-Bench, without running what is in them.

A pickle is a program. This reader gives the few words that NumPy arrays and ordered dicts are written with a meaning of its
own and refuses every other one; of NumPy it only calls what reads numbers out of bytes.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.errors import what_it_says, why

_NUMBERS = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248])")


def read_batch(path: Path, md5: str | None = None) -> dict[str, Any]:
    """Read a pickled dict of arrays, lists and plain values; texts and bytes of Python 2 are read as Latin-1.

    Raises:
        ValueError: if the file is not there, has another MD5 than ``md5``, is damaged, is not a dict, or holds anything
            else than arrays of numbers, lists, dicts, texts, bytes and numbers.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    if md5 is not None and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        raise ValueError(f"{str(path)!r} is damaged or another file: its MD5 is {found}, not {md5}; get it again")
    batch = read_dict(content, repr(str(path)), "batch of images")
    return {str(key): value.finished() if isinstance(value, _Array) else value for key, value in batch.items()}


def read_dict(content: bytes, where: str, what: str) -> dict[Any, Any]:
    """Read a pickled dict of lists, dicts (ordered ones too), sets, texts, bytes, numbers and scalars of NumPy.

    ``where`` begins the error, ``what`` is what is needed, such as ``batch of images``.

    Raises:
        ValueError: if it is damaged, is not a dict, or holds anything else.
    """
    try:
        held = _Reader(io.BytesIO(content), what).load()
    except _Refused as error:
        raise ValueError(f"{where} is refused: {what_it_says(error)}") from None
    except Exception as error:  # damaged pickles raise nearly every kind of error
        raise ValueError(f"{where} is not a readable {what}: {why(error)}") from None
    if not isinstance(held, dict):
        raise ValueError(f"{where} holds a {type(held).__name__}; needed: a dict")
    return held


class _Refused(pickle.UnpicklingError):
    """The file asks for something that no batch of images needs."""


class _Word:
    """A name that the file may use: it can be called, and nothing else. Made anew for every use."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it tries to change a function")


class _Type:
    """Kind of the numbers of an array."""

    __slots__ = ("name",)

    def __init__(self, name: Any, *_flags: Any) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
            raise _Refused(f"it has an array of {name!r}, which are not numbers")
        self.name = name

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise _Refused(f"it has an array of byte order {order!r}")
        self.name = order + self.name.lstrip("<>|=")


class _Array:
    """An array while it is read."""

    __slots__ = ("_value",)

    def __init__(self, value: np.ndarray | None = None) -> None:
        self._value = value

    def __setstate__(self, state: Any) -> None:
        shape, kind, fortran, raw = state[-4:]
        self._value = _numbers(raw, kind, shape, "F" if fortran else "C")

    def finished(self) -> np.ndarray:
        if self._value is None:
            raise ValueError("an array has no content")
        return self._value


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, what: str) -> None:
        super().__init__(file, encoding="latin1")
        self._what = what

    def find_class(self, module: str, name: str) -> Any:
        # The same places before and since NumPy 2, and in Python 2.
        match module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins"), name:
            case "builtins", "bytes":
                return _Word(_bytes)
            case "collections", "OrderedDict":
                return _Word(_empty_dict)
            case "_codecs", "encode":
                return _Word(_encode)
            case "numpy", "ndarray":
                return _Word(_never)  # only named, never called, by what NumPy writes
            case "numpy", "dtype":
                return _Word(_Type)
            case "numpy.core.multiarray", "_reconstruct":
                return _Word(lambda *_: _Array())
            case "numpy.core.multiarray", "scalar":
                return _Word(lambda kind, raw: _numbers(raw, kind, (), "C").item())
            case "numpy.core.numeric", "_frombuffer":
                return _Word(lambda raw, kind, shape, order: _Array(_numbers(raw, kind, shape, order)))
        raise _Refused(f"it asks for {module}.{name}, which no {self._what} needs; do not use a file like this")


def _numbers(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(raw, str):  # bytes of Python 2
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray) or not isinstance(kind, _Type) or order not in ("C", "F"):
        raise _Refused("it has an array that is not one of numbers")
    return np.frombuffer(raw, np.dtype(kind.name)).reshape(shape, order=order)


def _bytes(*content: Any) -> bytes:
    if content:
        raise _Refused("it makes bytes out of something else")
    return b""


def _empty_dict(*content: Any) -> dict[Any, Any]:
    if content:
        raise _Refused("it makes an ordered dict in a way of its own")
    return {}


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"it encodes a text as {encoding!r}")
    return text.encode("latin1")


def _never(*_: Any) -> None:
    raise _Refused("it makes an array in a way of its own")

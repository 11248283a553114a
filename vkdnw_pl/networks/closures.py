"""Functions that a copied network holds: ``copy.deepcopy`` does not copy them, so they still see the original."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_NO_PARTS = (str, bytes, int, float, complex, type(None), type, ModuleType, Tensor)
_EMPTY = object()


class Rebinding:
    """Puts functions that see the copy in the place of functions that see the original.

    Cells, defaults and global names of a function may hold a module, and so may what they hold in turn. They get the
    copies, as bound methods do in ``copy.deepcopy``; what has nothing of the network stays as it is, so that a hook can
    tell its caller something. ``memo`` is that of the ``copy.deepcopy`` of the network.
    """

    def __init__(self, memo: dict[int, Any]) -> None:
        self._memo = memo
        self._seen: set[int] = set()
        self._functions: dict[int, FunctionType] = {}
        self._cells: dict[int, CellType] = {}
        self._originals: list[Any] = []  # alive, so that no other object gets their id
        self._where = ""
        self._note_copies()

    def _note_copies(self) -> None:
        originals = self._memo.get(id(self._memo))
        self._copies = {id(value) for value in self._memo.values() if value is not originals}

    def rebind(self, copied: nn.Module) -> None:
        """Do it in every attribute of the modules, in place.

        Raises:
            ValueError: where that cannot be; the text names module and attribute.
        """
        modules = dict(copied.named_modules())
        self._seen.update(map(id, modules.values()))
        for name, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule) or id(module) not in self._copies:
                continue
            for attribute, value in list(vars(module).items()):
                self._where = f"{name or 'the network'} ({type(module).__name__}): a function in {attribute}"
                if (new := self._part(value)) is not value:
                    module.__dict__[attribute] = new

    def _part(self, value: Any) -> Any:
        """What stands for a part of the copy."""
        if isinstance(value, _NO_PARTS) or id(value) in self._seen:
            return value
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, weakref.ref):
            new = self._memo.get(id(value()))
            return value if new is None else weakref.ref(new)
        if isinstance(value, MethodType):
            self._part(value.__self__)
            function = self._part(value.__func__)
            return value if function is value.__func__ else MethodType(function, value.__self__)
        if isinstance(value, functools.partial):
            function, items = self._part(value.func), tuple(map(self._part, value.args))
            named = {key: self._part(item) for key, item in value.keywords.items()}
            pairs = zip((function, *items, *named.values()), (value.func, *value.args, *value.keywords.values()))
            return value if all(a is b for a, b in pairs) else functools.partial(function, *items, **named)
        if type(value) is tuple:
            items = tuple(map(self._part, value))
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        if id(value) not in self._copies:
            return value
        self._seen.add(id(value))
        if isinstance(value, list):
            value[:] = map(self._part, value)
        entries = value if isinstance(value, dict) else getattr(value, "__dict__", {})
        for key, item in list(entries.items()):
            if (new := self._part(item)) is not item:
                entries[key] = new
        return value

    def _function(self, function: FunctionType) -> FunctionType:
        if id(function) in self._functions:
            return self._functions[id(function)]
        if not self._holds(function):
            return function
        cells = tuple(map(self._new_cell, function.__closure__ or ()))
        named = dict(function.__globals__)
        new = FunctionType(function.__code__, named, function.__name__, None, cells)
        self._functions[id(function)] = self._functions[id(new)] = new
        self._originals.append(function)
        for cell, new_cell in zip(function.__closure__ or (), cells, strict=True):
            if new_cell is not cell and _contents(new_cell) is _EMPTY:
                new_cell.cell_contents = self._seen_by_function(_contents(cell))
        new.__defaults__ = function.__defaults__ and tuple(map(self._seen_by_function, function.__defaults__))
        defaults = function.__kwdefaults__ or {}
        new.__kwdefaults__ = {key: self._seen_by_function(value) for key, value in defaults.items()}
        named.update({name: self._seen_by_function(value) for name, value in _globals(function)})
        for name in ("__module__", "__qualname__", "__doc__"):
            setattr(new, name, getattr(function, name))
        new.__dict__.update(function.__dict__)
        return new

    def _new_cell(self, cell: CellType) -> CellType:
        """A cell to fill, or the same one where it holds nothing of the network."""
        if id(cell) not in self._cells:
            self._cells[id(cell)] = CellType() if self._holds(_contents(cell)) else cell
            self._originals.append(cell)
        return self._cells[id(cell)]

    def _holds(self, value: Any) -> bool:
        """Whether something of the original network can be reached from there."""
        seen: dict[int, Any] = {}
        pending = [value]
        while pending:
            value = pending.pop()
            if id(value) in self._memo and not isinstance(value, str):
                return True
            if id(value) not in seen and not isinstance(value, _NO_PARTS):
                seen[id(value)] = value
                pending += _parts(value)
        return False

    def _seen_by_function(self, value: Any) -> Any:
        """What stands for something that a function closes over."""
        if not self._holds(value):
            return value
        if isinstance(value, FunctionType | weakref.ref):
            return self._part(value)
        if any(isinstance(p, nn.Parameter) and id(p) in self._memo for p in _listed(value)):
            raise ValueError(f"{self._where} closes over a parameter of the network: let it take that from its module")
        try:
            new = copy.deepcopy(value, self._memo)
        except Exception as error:
            raise ValueError(
                f"{self._where} closes over a {type(value).__name__} that cannot be copied: {error}"
            ) from error
        self._note_copies()
        return self._part(new)


def _parts(value: Any) -> Iterable[Any]:
    """What can be reached from a value in one step."""
    if isinstance(value, FunctionType):
        yield from map(_contents, value.__closure__ or ())
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        yield from dict(_globals(value)).values()
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, weakref.ref):
        yield value()
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, dict):
        yield from list(value.values())
    elif isinstance(value, list | tuple | set):
        yield from list(value)
    else:
        yield from list(getattr(value, "__dict__", {}).values())


def _globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Global names of a function that are modules, parameters, lists of them, or functions beside it, with values."""
    for name in sorted(set(_names(function.__code__))):
        value = function.__globals__.get(name)
        beside = isinstance(value, FunctionType) and value.__globals__ is function.__globals__
        if beside or isinstance(value, nn.Module | nn.Parameter | list | tuple):
            yield name, value


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _listed(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _listed(item)
    else:
        yield value

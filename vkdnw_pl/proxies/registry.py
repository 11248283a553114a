"""The proxies that exist: every subclass of ``Proxy`` in the modules of this package, by name."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Mapping
from typing import Any

import vkdnw_pl.proxies as package
from vkdnw_pl.proxies.base import Protocol, Proxy

_PROTOCOL = tuple(field.name for field in dataclasses.fields(Protocol))
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MACHINERY = {"base", "borrow", "graph", "memory", "registry", "scoring", "undefined", "functional"}


def _discover() -> dict[str, type[Proxy]]:
    found: dict[str, type[Proxy]] = {}
    for module_info in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        if module_info.name in _MACHINERY:
            continue
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Proxy) and cls.__module__ == module.__name__:
                if cls.info.name in found:
                    raise RuntimeError(f"two proxies are named {cls.info.name!r}: {found[cls.info.name]} and {cls}")
                found[cls.info.name] = cls
    return found


PROXIES: dict[str, type[Proxy]] = _discover()


def make_proxies(specs: Iterable[str | Mapping[str, Any]]) -> list[Proxy]:
    """Make proxies from names or from mappings ``{name: ..., parameter: value, ...}``.

    Besides a proxy's own parameters a mapping may have ``init``, ``images`` and ``samples`` (see ``Protocol``), and
    ``label``, which takes the place of the name in the score table.

    Raises:
        ValueError: for an unknown name or parameter (naming the nearest and the allowed ones), a value that the
            proxy refuses, a repeated proxy, or an empty list.
    """
    if isinstance(specs, str):
        raise ValueError(f"proxies: {specs!r} is one text; give a list of names or mappings")
    made: list[Proxy] = []
    for spec in specs:
        if not isinstance(spec, str | Mapping):
            raise ValueError(f"proxies: {spec!r} is neither a name nor a mapping (known: {', '.join(PROXIES)})")
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        if "name" not in options:
            raise ValueError(
                f"proxies: {dict(options)!r} has no 'name'; write {{name: vkdnw, alpha: 0.05}} or a bare name"
            )
        name = options.pop("name")
        cls = PROXIES.get(name) if isinstance(name, str) else None
        if cls is None:
            raise ValueError(f"proxies: {name!r} is not known{_nearest(name, PROXIES)} (known: {', '.join(PROXIES)})")
        parameters = list(inspect.signature(cls).parameters)
        known = [*parameters, *(["init"] if cls.info.input == "none" else _PROTOCOL), "label"]
        for option in options:
            if option not in known:
                allowed = ", ".join(known) or "none"
                raise ValueError(
                    f"proxies: {name} has no parameter {option!r}{_nearest(option, known)} (its parameters: {allowed})"
                )
        label = options.pop("label", None)
        asked: dict[str, Any] = {option: options.pop(option) for option in _PROTOCOL if option in options}
        proxy = cls(**options)
        try:
            proxy.protocol = Protocol(**asked)
        except ValueError as error:
            raise ValueError(f"proxies: {name}: {error}") from None
        if label is not None:
            if not isinstance(label, str) or not _LABEL.fullmatch(label):
                raise ValueError(f"proxies: {name}: label={label!r} is not allowed: letters, digits and _ only")
            proxy.label = label
        for other in made:
            if both := set(proxy.table_columns) & set(other.table_columns):
                raise ValueError(
                    f"proxies: {name!r} is given twice, or another proxy has the same column {sorted(both)[0]!r}; tell "
                    f"them apart with a label: {{name: {name}, label: {name}_2, ...}}"
                )
        made.append(proxy)
    if not made:
        raise ValueError(f"proxies: the list is empty (known: {', '.join(PROXIES)})")
    return made


def _nearest(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""

"""One registry for all that can be plugged in: built-in classes, those of installed packages, and a user's own."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vkdnw_pl.errors import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Value = TypeVar("Value")


class Registry(Generic[Value]):
    """Classes of one kind by name.

    A name is that of a built-in class, of one that `register` was called with, of an entry point of an installed
    package, or the dotted name of a class, ``my_package.my_module.MyClass``. Nothing is imported before it is asked for.

    Args:
        option: how texts begin that speak of a name, such as ``space=``.
        base: what every class derives from.
        package: whose modules hold the built-in classes: every class there that can be made. Entry points of this group
            name those of other packages.
        own_name: the name that a class gives itself.
        value: makes what ``registry[name]`` is from the class; called once for each class.
    """

    def __init__(
        self, option: str, base: type[Any], package: str, own_name: Callable[[Any], str], value: Callable[[Any], Value]
    ) -> None:
        self._option, self._base, self._package = option, base, package
        self._own_name, self._value = own_name, value
        self._registered: dict[str, type[Any]] = {}
        self._values: dict[type[Any], Value] = {}

    @cached_property
    def builtin(self) -> dict[str, type[Any]]:
        """Name -> class of this package, by name."""
        classes: dict[str, type[Any]] = {}
        package = importlib.import_module(self._package)
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{self._package}.{info.name}")
            for cls in vars(module).values():
                if self._is_kind(cls) and not inspect.isabstract(cls) and cls.__module__ == module.__name__:
                    name = self._own_name(cls)
                    if classes.setdefault(name, cls) is not cls:
                        raise RuntimeError(f"{self._option}{name!r} names two classes: {classes[name]} and {cls}")
        return dict(sorted(classes.items()))

    def __iter__(self) -> Iterator[str]:
        """All names but dotted ones, the built-in ones first."""
        return iter(dict.fromkeys([*self.builtin, *self._registered, *self._entry_points]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(name == listed for listed in self)

    def __getitem__(self, name: Any) -> Value:
        """What stands for the class of this name; ``ValueError`` where the name or the class is of no use."""
        return self.of(self.find(name), name)

    def items(self) -> Iterator[tuple[str, Value]]:
        """Every name with what stands for its class; a broken one of an installed package is a warning."""
        for name in self:
            try:
                yield name, self[name]
            except ValueError as error:
                warnings.warn(str(error), stacklevel=2)

    def find(self, name: Any) -> type[Any]:
        """The class of a name.

        Raises:
            ValueError: if the name is not known, has two meanings, or is no class that can be used; the text says why.
            ImportError: if the module of a dotted name lacks something that it imports.
        """
        key = name if isinstance(name, str) else ""
        cls = self.builtin.get(key) or self._registered.get(key)
        entry_points = self._entry_points.get(key, [])
        if len(entry_points) + (cls is not None) > 1:
            owners = [*(["vkdnw_pl"] if cls else []), *map(_owner, entry_points)]
            raise ValueError(f"{self._option}{name!r} is defined more than once: by {' and '.join(owners)}")
        if cls is None and entry_points:
            cls = self._load(name, entry_points[0])
        elif cls is None and "." in key:
            cls = self._import(key)
        if cls is None:
            raise ValueError(f"{self._option}{name!r} is not known{nearest(name, self)} (known: {', '.join(self)})")
        self.check(cls, name)
        return cls

    def imports(self, name: str) -> bool:
        """Whether to find the class of this name would import a module, and so run its code, that nobody here has named."""
        return "." in name and name not in self and name.rpartition(".")[0] not in sys.modules

    def of(self, cls: type[Any], name: object = None) -> Value:
        """What stands for a class; ``name`` is how texts call it."""
        if cls not in self._values:
            try:
                self._values[cls] = self._value(cls)
            except TypeError as error:
                raise ValueError(f"{self._option}{name or cls.__qualname__!r} cannot be made: {error}") from None
        return self._values[cls]

    def check(self, cls: Any, name: object = None) -> None:
        """Refuse what is no class of this kind, cannot be made, or bears the name of a built-in one."""
        called = f"{self._option}{name or getattr(cls, '__qualname__', cls)!r}"
        if not self._is_kind(cls):
            base = f"{self._package}.{self._base.__name__}"
            raise ValueError(f"{called} is not allowed: it must be a subclass of {base}, not {cls!r}")
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(cls.__abstractmethods__))
            raise ValueError(f"{called} cannot be made: {cls.__qualname__} is abstract, it lacks {missing}")
        try:
            own_name = self._own_name(cls)
        except AttributeError as error:
            raise ValueError(f"{called} is not allowed: it does not say its name ({error})") from None
        if self.builtin.get(own_name, cls) is not cls:
            raise ValueError(
                f"{called} is not allowed: {cls.__module__}.{cls.__qualname__} calls itself {own_name!r}, which names a "
                "built-in one; give it a name of its own"
            )

    def key(self, cls: type[Any]) -> str:
        """The name to write down so that every other process finds the class.

        That of the built-in class or the entry point, else the dotted name; not a name that was only registered here.
        ValueError for a class within a function or another class, where no name leads to it.
        """
        names = [name for name, builtin in self.builtin.items() if builtin is cls]
        place = (cls.__module__, cls.__qualname__)
        for name, entry_points in self._entry_points.items():
            names += [name for point in entry_points if (point.module, point.attr) == place]
        if names:
            return names[0]
        if "." in cls.__qualname__:
            raise ValueError(
                f"{self._option}{cls.__qualname__!r} is not allowed here: define the class at the top of a module, "
                "so that other processes find it"
            )
        return ".".join(place)

    def register(self, cls: type[Any], name: str | None = None) -> type[Any]:
        """Give a class a short name in this process; also a decorator."""
        name = self._own_name(cls) if name is None else name
        self.check(cls, name)
        if name in self and self._registered.get(name) is not cls:
            raise ValueError(f"{self._option}{name!r} is taken: it is the name of {self.find(name)}")
        self._registered[name] = cls
        return cls

    def _is_kind(self, cls: object) -> bool:
        return isinstance(cls, type) and issubclass(cls, self._base)

    @cached_property
    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        """Those of installed packages, not loaded; the list of a name is longer than one where packages disagree."""
        from importlib.metadata import entry_points

        points: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self._package):
            same_name = points.setdefault(point.name, [])
            if point.value not in [other.value for other in same_name]:
                same_name.append(point)
        return points

    def _load(self, name: object, point: EntryPoint) -> Any:
        try:
            return point.load()
        except Exception as error:  # whatever is wrong with a package of others
            raise ValueError(
                f"{self._option}{name!r} cannot be loaded: {_owner(point)} says {point.value!r}, which raises "
                f"{type(error).__name__}: {error}"
            ) from error

    def _import(self, name: str) -> Any:
        path, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(path), attribute)
        except ModuleNotFoundError as error:
            # What the module itself fails to import is said as it is.
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise
            reason = f"there is no module {error.name!r} on Python's path"
        except AttributeError:
            reason = f"the module {path!r} has no {attribute!r}"
        except (ValueError, TypeError):  # an empty part, as in '.x'
            reason = f"write it like my_package.my_module.My{self._base.__name__}"
        raise ValueError(f"{self._option}{name!r} is not known: {reason}")


def _owner(point: EntryPoint) -> str:
    return f"the installed package {point.dist.name}" if point.dist else "an installed package"

"""Networks for a user's own images: their class count and their size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vkdnw_pl.data.own_images import IMAGE_SIZE, image_folder_args, listed, read_own_images
from vkdnw_pl.options import ProxyOptions


@dataclass(frozen=True)
class OwnTask:
    """What the images that the user gave as ``data`` or ``input`` ask of the networks; empty where none were given."""

    where: Mapping[str, str] = field(default_factory=dict)
    """Option -> folder or CSV file."""
    classes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Option -> height and width of its images, where the user chose them."""

    @classmethod
    def of(cls, options: ProxyOptions) -> OwnTask:
        """Read the folders.

        Raises:
            ValueError: if there are no images, or the two options have images of different numbers of classes.
        """
        where: dict[str, str] = {}
        sizes: dict[str, int] = {}
        classes: tuple[str, ...] = ()
        for option in ("data", "input"):
            if (args := image_folder_args(getattr(options, option))) is None:
                continue
            found = read_own_images(str(args.get("root", ""))).classes
            if where and len(found) != len(classes):
                (first, path), *_ = where.items()
                raise ValueError(
                    f"{option}={str(args['root'])!r} has {len(found)} classes ({listed(found)}) and {first}={path!r} has "
                    f"{len(classes)} ({listed(classes)}); the networks can only have one number of classes"
                )
            where[option], classes = str(args["root"]), found
            if "image_size" in args:
                sizes[option] = args["image_size"]
        return cls(where, classes, sizes)

    @property
    def why(self) -> str:
        """Where the networks' options come from, for the user."""
        return f"classes and size of the images in {' and '.join(dict.fromkeys(self.where.values()))}"

    def network(self, network: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the networks with class count and size of the images, which those that are there must not contradict.

        Raises:
            ValueError: naming both sides.
        """
        if not self.where:
            return dict(network)
        (option, path), *_ = self.where.items()
        count = len(self.classes)
        if network.get("num_classes", count) != count:
            raise ValueError(
                f"network has num_classes={network['num_classes']}, and {option}={path!r} has {count} classes "
                f"({listed(self.classes)}); give --network '{{num_classes: {count}}}', or other images"
            )
        size = network.get("image_size", next(iter(self.sizes.values()), IMAGE_SIZE))
        for option, chosen in self.sizes.items():
            if chosen != size:
                raise ValueError(f"network has image_size={size}, and {option} has image_size={chosen}; leave out one")
        return {**network, "num_classes": count, "image_size": size}

    def sources(self, options: ProxyOptions, network: Mapping[str, Any]) -> dict[str, Any]:
        """``data`` and ``input`` with images of the networks' size."""
        sources: dict[str, Any] = {}
        for option in self.where:
            source = getattr(options, option)
            args = {**source["init_args"], "image_size": network["image_size"]}
            sources[option] = {**source, "init_args": args}
        return sources

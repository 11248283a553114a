"""Images per second of the 480-epoch recipe: the step alone, and the loader alone.

    python benchmarks/train_speed/measure.py step --device cuda --batch_size 256 --precision bf16-mixed --teacher true --compile true
    python benchmarks/train_speed/measure.py loader --workers 1 --images 256

``step`` trains on images that are on the device already (warm-up steps left out, the device synchronised at both ends);
``loader`` decodes and transforms JPEG files of ImageNet's usual size as ``configs/mbv2_imnet.yaml`` does. A training is as
fast as the slower of the two. One JSON line for each run goes to standard output.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import yaml
from jsonargparse import auto_cli
from PIL import Image

from vkdnw_pl.data import ImageNet
from vkdnw_pl.training.module import TrainingModule

RECIPE = yaml.safe_load((Path(__file__).parents[2] / "configs" / "mbv2_imnet.yaml").read_text())


def step(
    device: str = "cpu",
    batch_size: int = 64,
    precision: str = "bf16-mixed",
    teacher: bool = True,
    compile: bool = False,
    steps: int = 30,
    warmup: int = 10,
) -> None:
    """Forward, backward and optimizer step of the recipe's network, images/s."""
    options = dict(RECIPE["model"])
    options["compile"] = compile
    options["teacher"] = {**options["teacher"], "pretrained": False, "compile": compile} if teacher else None
    if precision == "32-true" and teacher:
        options["teacher"]["dtype"] = "float32"
    module = TrainingModule(**options, num_classes=1000, input_size=(3, 320, 320))
    module.to(device)
    module.network.to(memory_format=torch.channels_last)
    if module.distillation is not None:
        module.distillation.prepare(device)
        if compile:
            module.distillation.compile()
    if compile:
        module.network.compile()
    optimizer = module._make_optimizer(0.1)
    size = 320 if teacher else 224
    images = torch.randn(batch_size, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (batch_size,), device=device)

    def one() -> None:
        context = torch.autocast(device, torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
        with context:
            loss = sum(module.losses(images, labels, torch.Generator().manual_seed(0))[0].values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def wait() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(warmup):
        one()
    began_at = wait()
    for _ in range(steps):
        one()
    elapsed_s = wait() - began_at
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    memory = {"peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if device == "cuda" else {}
    print(
        json.dumps(
            {
                "what": "step",
                "device": name,
                "torch": torch.__version__,
                "batch_size": batch_size,
                "precision": precision,
                "teacher": teacher,
                "compile": compile,
                "images_per_s": round(batch_size * steps / elapsed_s, 2),
                **memory,
            }
        )
    )


def loader(workers: int = 0, images: int = 256, teacher: bool = True) -> None:
    """Decoding, augmentation and collation, images/s."""
    init = dict(RECIPE["data"]["init_args"])
    with tempfile.TemporaryDirectory() as folder:
        _write_photos(Path(folder), images)
        init |= {
            "root": folder,
            "classes": 2,
            "batch_size": 32,
            "num_workers": workers,
            "image_size": 320 if teacher else 224,
        }
        data = ImageNet(**init)
        data.prepare_data()
        data.setup("fit")
        batches = data.train_dataloader()
        next(iter(batches))
        began_at = time.perf_counter()
        seen = sum(len(labels) for _, labels in batches)
        elapsed_s = time.perf_counter() - began_at
    print(
        json.dumps(
            {
                "what": "loader",
                "workers": workers,
                "image_size": init["image_size"],
                "images": seen,
                "images_per_s": round(seen / elapsed_s, 1),
                "ms_per_image_and_worker": round(1e3 * elapsed_s * max(1, workers) / seen, 2),
            }
        )
    )


def _write_photos(root: Path, count: int) -> None:
    """JPEG files of 500x375 pixels and about 110 kB, ImageNet's averages."""
    rng = np.random.default_rng(0)
    for part, number in (("train", count), ("val", 2)):
        for i in range(number):
            folder = root / part / f"n0144{i % 2}764"
            folder.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (94, 125, 3), dtype=np.uint8)).resize(
                (500, 375), Image.BICUBIC
            )
            coarse.save(folder / f"{i}.JPEG", quality=85)


if __name__ == "__main__":
    auto_cli({"step": step, "loader": loader})

"""The commands on CUDA: score with workers that share a GPU, search, fit with proxies and average, export."""

import json

import pytest
import torch
import yaml
from small_runs import bytes_without_seconds, run

from vkdnw_pl import cli
from vkdnw_pl.runs.folder import RunFolder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE, ACCELERATOR = "cuda", "gpu"
TINY = "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE1K3(8,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"


def command(*arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0


def test_workers_share_a_gpu(tmp_path):
    for workers in (1, 3):
        assert run(tmp_path / str(workers), device=DEVICE, workers=workers) == 0
    assert RunFolder(tmp_path / "3").read_meta()["environment"]["device"]["kind"] == DEVICE
    assert bytes_without_seconds(tmp_path / "3") == bytes_without_seconds(tmp_path / "1")


def test_search(tmp_path):
    options = ["--network", "{channels: 2, cells: 0, image_size: 8}", "--evaluations", 12, "--batch", 4]
    options += ["--batch_size", 4, "--ranking", "aleph>vkdnw+macs", "--max_latency_ms", 1000, "--figures", "false"]
    command("search", "--space", "nb201", "--device", DEVICE, "--out", tmp_path / "run", *options)
    found = json.loads((tmp_path / "run" / "found.json").read_text())
    assert found["evaluated"] == 12
    assert 0 < found["latency_ms"] < 1000


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fit_and_export(tmp_path, precision):
    callbacks = [{"class_path": "EMA"}, {"class_path": "ProxyCallback", "init_args": {"proxies": ["vkdnw", "aleph"]}}]
    config = {
        "model": {"arch": TINY, "mixup": 0.2, "label_smoothing": 0.1},
        "data": {"class_path": "Digits", "init_args": {"batch_size": 200, "val_size": 200}},
        "trainer": {
            **{"accelerator": ACCELERATOR, "devices": 1, "max_epochs": 2, "limit_train_batches": 2},
            **{"precision": precision, "callbacks": callbacks},
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command("fit", "--config", tmp_path / "config.yaml", "--out", tmp_path / "fit")
    history = [json.loads(line) for line in (tmp_path / "fit" / "history.jsonl").read_text().splitlines()]
    assert any(row.get("gpu_peak_gib", 0) > 0 for row in history) or ACCELERATOR != "gpu"
    command("export", tmp_path / "fit", "--out", tmp_path / "export", "--format", "state_dict,onnx")
    state = torch.load(tmp_path / "export" / "model.pt", weights_only=True)
    assert {value.device.type for value in state.values() if isinstance(value, torch.Tensor)} <= {"cpu"}
    assert (tmp_path / "export" / "model.onnx").is_file()

#!/usr/bin/env bash
# From nothing to a trained network that timm loads, without a manual step and without a download: search, fit, export, timm.
#
#   bash examples/quick_chain.sh [FOLDER]        FOLDER: where everything goes; default runs/quick_chain
#
# Two to four minutes on two CPU cores. A second call continues where the first one stopped, and does nothing twice.
#
# Options for a shorter or longer run come from the environment:
#   SEARCH_OPTIONS="--evaluations 200"  FIT_OPTIONS="--trainer.max_epochs 30"  FORMATS=state_dict,onnx
set -euo pipefail

FOLDER=$(realpath -m "${1:-runs/quick_chain}")
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
FORMATS=${FORMATS:-state_dict}
# Networks this small gain nothing from a second thread, and lose much where others use the cores too.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

step() { printf '\n== %s\n' "$*"; }

step "1. search: which network of the MobileNetV2 space ranks best before training, with at most 6 M MACs at 32 pixels?"
# 48 networks are scored with VKDNW and its companions; found.json is the best one.
$PYTHON -m vkdnw_pl search --config configs/mbv2_search_quick.yaml --out "$FOLDER/search" ${SEARCH_OPTIONS:-}

step "2. fit: train it on scikit-learn's handwritten digits, which are part of the installation"
# The file says what the network is. Options of the config that belong to its own NAS-Bench-201 network are taken back
# (network), and this one gets the images that it was searched for (image_size) and a learning rate that suits it.
$PYTHON -m vkdnw_pl fit --config configs/digits_quick.yaml --out "$FOLDER/fit" \
    --model.arch "$FOLDER/search/found.json" --model.network null --data.image_size 32 \
    --model.optimizer.lr 0.02 --trainer.max_epochs 8 --trainer.callbacks null ${FIT_OPTIONS:-}

step "3. export: the best checkpoint as one file that needs nothing of the run folders"
# model.pt: weights and architecture; model.json: what the network is. FORMATS=state_dict,onnx writes model.onnx as well.
$PYTHON -m vkdnw_pl export "$FOLDER/fit" --out "$FOLDER/export" --format "$FORMATS" --overwrite true

step "4. timm: the exported network as a model of timm, as a classifier and as a backbone"
$PYTHON - "$FOLDER" <<'PYTHON'
import json
import sys
from pathlib import Path

import timm
import torch

import vkdnw_pl.networks.timm_models  # registers vkdnw_mbv2
from vkdnw_pl.data import Digits

run = Path(sys.argv[1])
card = json.loads((run / "export" / "model.json").read_text())
model = timm.create_model(
    "vkdnw_mbv2", arch=str(run / "export" / "model.json"), checkpoint_path=str(run / "export" / "model.pt")
).eval()
backbone = timm.create_model("vkdnw_mbv2", arch=card["arch"], features_only=True)
print(f"{card['macs'] / 1e6:.2f} M MACs, {card['num_params'] / 1e6:.2f} M parameters: {card['arch']}")
print("feature maps:", dict(zip(backbone.feature_info.reduction(), backbone.feature_info.channels())))

digits = Digits(image_size=card["input_size"][1], batch_size=200)
digits.setup("validate")
with torch.no_grad():
    right = [model(images).argmax(1) == labels for images, labels in digits.val_dataloader()]
accuracy = 100 * torch.cat(right).float().mean().item()
print(f"validation accuracy in timm: {accuracy:.2f} % (fit measured {card['accuracy']['val/top1']:.2f} %)")
assert abs(accuracy - card["accuracy"]["val/top1"]) < 0.6, "timm's model is not the one that was trained"
PYTHON

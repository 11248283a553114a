#!/usr/bin/env bash
# From a folder of pictures to a network that labels new ones: score, search, fit, export, predict. Nothing is downloaded.
#
#   bash own_images.sh [FOLDER]        FOLDER: where everything goes; default own_images
#
# About two minutes on two CPU cores; needs the installed package alone. A second call continues where the first one
# stopped. With your own pictures leave out step 1, and give your folder in place of $PICTURES (docs/own_images.md says how
# it may look).
#
# Options for a shorter or longer run come from the environment:
#   SEARCH_OPTIONS="--evaluations 200"  FIT_OPTIONS="--trainer.max_epochs 30"
set -euo pipefail

FOLDER=${1:-own_images}
PICTURES=$FOLDER/pictures
PYTHON=${PYTHON:-python}
# Networks this small gain nothing from a second thread, and lose much where others use the cores too.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

step() { printf '\n== %s\n' "$*"; }

step "1. pictures: handwritten digits, a little crooked and noisy: one folder for each class, sizes and kinds mixed"
$PYTHON - "$FOLDER" <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image

from vkdnw_pl.data.digit_images import Corruption, clean_digits, corrupt

MILD = Corruption(rotation=15, shear=0.1, scale=(0.8, 1.0), shift=1.5, contrast=(0.7, 1.0), occlusion=3, noise=0.05)
NAMES = "zero one two three four five six seven eight nine".split()


def write(images, labels, place):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        picture = Image.fromarray((image[0] * 255).round().byte().numpy())  # grey
        side = 24 + i % 5 * 8
        picture = picture.resize((side, side + i % 3), Image.Resampling.BICUBIC)
        if i % 4 == 1:
            picture = picture.convert("RGBA")
        if i % 4 == 2:
            picture = picture.convert("P")
        file = place(NAMES[int(label)], i)
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)


folder = Path(sys.argv[1])
images, labels = clean_digits("train")
write(corrupt(images[:800], 0, MILD), labels[:800], lambda name, i: folder / "pictures" / name / f"{i:03}.png")
images, labels = clean_digits("test")
write(corrupt(images[:100], 1, MILD), labels[:100], lambda name, i: folder / "new" / f"a {name} {i:03}.png")
PYTHON
ls "$PICTURES"

step "2. score: what do four networks of the MobileNetV2 space look like on these pictures, before any training?"
# The pictures say that the networks have 10 classes; without image_size they would be resized to 64 pixels.
$PYTHON -m vkdnw_pl score --space mbv2 --archs sample:4 --data "$PICTURES" --network '{image_size: 32}' \
    --proxies '[vkdnw, jacov, macs, params]' --out "$FOLDER/score"

step "3. search: which network ranks best on these pictures, with at most 6 M MACs?"
$PYTHON -m vkdnw_pl search --space mbv2 --data "$PICTURES" --network '{image_size: 32}' --max_macs 6M \
    --evaluations 32 --population 12 --batch 16 --out "$FOLDER/search" ${SEARCH_OPTIONS:-}

step "4. fit: train it with the recipe for few pictures; a fifth of them is held out"
# Digits are no photographs: mirrored they are other signs, cut into they are others too, and colours tell nothing.
$PYTHON -m vkdnw_pl fit --config configs/small_data.yaml --model.arch "$FOLDER/search/found.json" --data "$PICTURES" \
    --data.image_size 32 --data.flip false --data.crop_scale 0.8 --data.color_jitter 0 --trainer.max_epochs 16 \
    --out "$FOLDER/fit" ${FIT_OPTIONS:-}

step "5. export: one file with weights, architecture, names of the classes and how pictures are prepared"
$PYTHON -m vkdnw_pl export "$FOLDER/fit" --out "$FOLDER/export" --overwrite true

step "6. predict: label new pictures"
$PYTHON -m vkdnw_pl predict "$FOLDER/export" --images "$FOLDER/new" --out "$FOLDER/labels"
$PYTHON - "$FOLDER" <<'PYTHON'
import csv
import sys
from pathlib import Path

with open(Path(sys.argv[1]) / "labels" / "predictions.csv", encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
print(",".join(rows[0]))
for row in rows[:3]:
    print(",".join(row.values()))
right = sum(Path(row["file"]).name.split()[1] == row["predicted_name"] for row in rows)
print(f"{right} of {len(rows)} new pictures are labelled as their file names say")
PYTHON

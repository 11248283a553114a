#!/usr/bin/env bash
# Everything that README.md reports, in FOLDER: pictures, searches, recipes, and the accuracy table. About two hours of one core.
#
#   bash benchmarks/small_data/run.sh runs/small_data
set -euo pipefail
FOLDER=$(realpath -m "$1")
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1

python benchmarks/small_data/pictures.py "$FOLDER/pictures"
python benchmarks/small_data/recipes.py "$FOLDER/pictures" "$FOLDER/recipes.csv"
found=
for search in vkdnw_agg_0 vkdnw_agg_1 vkdnw_agg_2 az_nas_0 az_nas_1 macs_0 macs_1; do
  out=$FOLDER/$search
  options=(--space mbv2 --network '{image_size: 64, num_classes: 8}' --max_macs 20M --max_layers 14 --strategy evolution
    --population 16 --evaluations 60 --batch 8 --seed "${search##*_}" --ranking "${search%_*}" --batch_size 16
    --input random --device cpu --workers 1 --out "$out")
  [[ $search == vkdnw_agg* ]] && options+=(--data random)
  python -m vkdnw_pl search "${options[@]}"
  found+=$out/found.json,
done
for seed in 1 2; do
  python -m vkdnw_pl label --archs "${found}random:5,timm:mobilenetv2_075" --min_macs 16M --seeds $seed \
    --config configs/small_data.yaml --data "$FOLDER/pictures" --trainer.max_epochs 12 --workers 1 --device cpu \
    --dataset pictures --out "$FOLDER/label_$seed"
done

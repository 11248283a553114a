#!/usr/bin/env bash
# Scores 400 networks in one process, and as an array of 8 jobs of which two are killed and requeued, and compares.
#
#   bash benchmarks/slurm_array/run.sh [OUT]      needs a Slurm cluster that runs at least two tasks at once
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-runs/slurm_array}
[ ! -e "$out" ] || { echo "$out exists" >&2; exit 2; }
options=(--archs sample:400 --proxies '[vkdnw, aleph, macs, expressivity, trainability]' --batch_size 8
    --network '{image_size: 16, cells: 1}' --device cpu --workers 1)

began=$SECONDS
python -m vkdnw_pl score "${options[@]}" --out "$out/single" >"$out.single.log" 2>&1
echo "one process: $((SECONDS - began)) s"

began=$SECONDS
python -m vkdnw_pl score "${options[@]}" --out "$out/array" --launch slurm --array 8 --time 10m
job=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["jobs"][0]["id"])' "$out/array/slurm/launch.json")
rows() { cat "$out/array/shards/$1-of-8/rows/"*.csv 2>/dev/null | grep -c '^|' || true; }
# in_the_middle TASK: waits until the task has made some of its 50 rows
in_the_middle() { until [ "$(rows "$1")" -ge 8 ]; do sleep 0.1; done; echo "task $1 has $(rows "$1") rows: killed"; }

in_the_middle 0
scancel --signal=KILL "${job}_0"   # Slurm sends SIGTERM and, if that does not help, SIGKILL
in_the_middle 1
scancel --signal=KILL "${job}_1.0" # the step itself: SIGKILL, nothing can be put in order
sleep 3
python -m vkdnw_pl status "$out/array" || echo "exit code of status: $?"
for task in 0 1; do
    scontrol requeue "${job}_$task"
    scontrol update jobid="${job}_$task" StartTime=now # else Slurm waits for two minutes
done
python -m vkdnw_pl status "$out/array" --wait
echo "array of 8 with two kills: $((SECONDS - began)) s"

python benchmarks/slurm_array/compare.py "$out/single" "$out/array"

#!/usr/bin/env bash
# Scores hostile architectures: run.sh OUT. See README.md.
set -uo pipefail
out=$1
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here:$here/../..
python=${PYTHON:-python}
mkdir -p "$out"
score() {
    "$python" -m vkdnw_pl score --space hostile.Sleepy --archs all --proxies '[params]' --network '{image_size: 8}' \
        --batch_size 2 --device cpu "$@"
}

echo "== one network takes 30 times as long as the others"
HOSTILE_LOG=$out/long.log HOSTILE_ARCHS=sleep-9-0$(printf ',sleep-0.3-%s' {1..40}) score --workers 2 --out "$out/long"
awk 'NR == 1 || $3 < first { first = $3 } { line[NR] = $0 }
     END { for (i = 1; i <= NR; i++) { split(line[i], f, " "); printf "%-14s worker %s  %6.2f s - %6.2f s\n", f[1], f[2], f[3] - first, f[4] - first } }' \
    "$out/long.log"

for workers in 1 2; do
    echo "== networks that end their worker, the last one too, with $workers worker(s)"
    HOSTILE_ARCHS=sleep-0-0,kill-1,sleep-0-2,exit-3,sleep-0-4,kill-5 score --workers "$workers" --out "$out/deadly$workers"
    echo "exit code $?"
    cut -d, -f1,4- "$out/deadly$workers/scores.csv"
done

echo "== a network that never ends, with --row_timeout 3"
HOSTILE_ARCHS=sleep-0-0,sleep-100000-1,sleep-0-2 score --workers 1 --row_timeout 3 --out "$out/endless"
echo "exit code $?"
cut -d, -f1,4- "$out/endless/scores.csv"

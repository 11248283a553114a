#!/usr/bin/env bash
# All that is to be known of this project on a GPU, in at most 8 minutes: tests, agreement with the CPU, speed.
#
#   bash benchmarks/gpu/run.sh                         one GPU, 16 cores
#   bash benchmarks/gpu/run.sh --device cpu --tiny     the same steps on a CPU, small, to see that they run
#
# Results go to $OUT (default benchmarks/gpu/results): log.txt, measured.jsonl, agreement.csv, summary.json, summary.md.
# A step that fails, or takes too long, does not stop the next one. PYTHON is the interpreter (default: python).
set -u
cd "$(dirname "$0")/../.."
OUT=$(realpath -m "${OUT:-benchmarks/gpu/results}")
PYTHON=${PYTHON:-python}
mkdir -p "$OUT"
LOG=$OUT/log.txt MEASURED=$OUT/measured.jsonl
: >"$LOG"
: >"$MEASURED"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
LIMIT=470 # seconds for everything
SECONDS=0

step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 began=$SECONDS left=$((LIMIT - SECONDS - 5))
    shift 2
    ((limit > left)) && limit=$left
    printf '\n== %s\n' "$name" | tee -a "$LOG"
    if ((limit > 0)); then
        timeout --kill-after=5 "$limit" "$@" >>"$LOG" 2>&1
        code=$?
    else
        code=124
    fi
    printf '{"what": "step", "name": "%s", "exit_code": %d, "seconds": %d}\n' "$name" "$code" $((SECONDS - began)) |
        tee -a "$MEASURED"
}

measure() { # STEP SECONDS
    step "$1" "$2" "$PYTHON" benchmarks/gpu/measure.py "$1" --out "$OUT" "${OPTIONS[@]}"
}

OPTIONS=("$@")
step driver 10 nvidia-smi
measure environment 60
step tests 100 "$PYTHON" -m pytest -o addopts= --strict-markers -q --maxfail=20 -m gpu $(grep -rl 'mark\.gpu' tests)
measure agreement 100
measure speed 120
measure workers 80
measure train 200
SECONDS_ALL=$SECONDS
LIMIT=$((LIMIT + 10))
measure summary 15
echo "all: $SECONDS_ALL s; results in $OUT"

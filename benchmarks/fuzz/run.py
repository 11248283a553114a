"""Many inputs for everything that reads text or files of strangers; see ``tests/fuzzing/fuzz_targets.py``.

    python benchmarks/fuzz/run.py --examples 100000

Writes ``result.json`` beside this file: for each reader how many inputs it got, read and refused, and the tracebacks.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "fuzzing"))


def fuzz(name: str, examples: int, folder: Path, number: int) -> dict:
    from fuzz_targets import TARGETS, answer

    counts: Counter[str] = Counter()
    faults: dict[str, str] = {}
    began_at = time.perf_counter()

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(TARGETS[name].inputs)
    def check(value):
        try:
            counts[answer(TARGETS[name], value, folder)] += 1
        except Exception as error:  # what this looks for: it is counted, and the next input follows
            counts["tracebacks"] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            faults.setdefault(
                f"{type(error).__name__} at {place.filename}:{place.lineno}", f"{error} of {value!r:.2000}"
            )

    done = 0
    while done < examples:  # a strategy with few different values ends early
        check()
        if sum(counts.values()) == done:
            break
        done = sum(counts.values())
    for place, fault in faults.items():
        print(f"{name}: {place}: {fault[:1500]}\n", flush=True)
    result = {"inputs": sum(counts.values()), **{key: counts[key] for key in ("read", "refused", "tracebacks")}}
    return {**result, "seconds": round(time.perf_counter() - began_at, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of readers")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VKDNW_CACHE"] = f"{folder}/cache"
        here = Path.cwd()
        out = (here / options.out).resolve()
        os.chdir(folder)
        from fuzz_targets import TARGETS

        parts = sum(target.share for target in TARGETS.values())
        results = {}
        for name, target in TARGETS.items():
            if not options.only or name in options.only:
                examples = -(-options.examples * target.share // parts)
                results[name] = fuzz(name, examples, Path(folder), options.seed)
                print(name, results[name], flush=True)
        os.chdir(here)
    total = {key: round(sum(one[key] for one in results.values()), 1) for key in next(iter(results.values()))}
    record = {"total": total, "seed": options.seed, "python": platform.python_version(), "readers": results}
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(total)


if __name__ == "__main__":
    main()

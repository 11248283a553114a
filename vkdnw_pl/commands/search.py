"""The command ``search``."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from vkdnw_pl.commands.search_plan import SearchPlan, plan_search
from vkdnw_pl.errors import CommandFailed, UsageError, WorkerDied, user_input
from vkdnw_pl.runs.folder import FolderBusy
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.signals import Stopped, stop_signals
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.found import describe_found, whole_record
from vkdnw_pl.search.loop import HistoryMismatch, Outcome
from vkdnw_pl.search.loop import search as run_search
from vkdnw_pl.search.progress import SearchProgress
from vkdnw_pl.search.ranked_history import RankedHistory
from vkdnw_pl.search.scores import NotInTable, open_scores
from vkdnw_pl.tracking.contents import log_found
from vkdnw_pl.tracking.options import wandb_options
from vkdnw_pl.tracking.tracked import Tracked, group_of, tracked_run

_SHOWN = 5


def search(
    space: str = "mbv2",
    network: dict[str, Any] | None = None,
    strategy: Literal["evolution", "ageing", "random", "pareto"] = "evolution",
    evaluations: int = 1000,
    population: int = 256,
    tournament: int = 10,
    objectives: list[str] = ["score", "macs"],  # noqa: B006  (only read; the help shows it)
    start: str | None = None,
    operator_sampling: Literal["uniform", "reference"] = "uniform",
    batch: int = 32,
    max_macs: int | float | str | None = None,
    min_macs: int | float | str | None = None,
    max_params: int | float | str | None = None,
    min_params: int | float | str | None = None,
    max_layers: int | None = None,
    min_layers: int | None = None,
    counting: bool | str = "true",
    max_latency_ms: float | None = None,
    max_peak_mb: float | None = None,
    measure_batch_size: int = 32,
    measure_warmup: int = 3,
    measure_repeats: int = 10,
    ranking: str = "vkdnw_agg",
    proxies: list[str | dict[str, Any]] = [],  # noqa: B006  (only read)
    batch_size: int = 16,
    input: str | dict[str, Any] = "random",
    data: str | dict[str, Any] = "digits",
    init: str = "auto",
    scores: str | None = None,
    seed: int = 0,
    proxy_seed: int = 1,
    oracle: str | None = None,
    oracle_path: str | None = None,
    top_k: int = 10,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int | Literal["auto"] = "auto",
    nodes: int = 1,
    row_timeout: float | None = None,
    out: str | None = None,
    overwrite: bool = False,
    figures: bool = True,
    progress: bool = True,
    wandb: bool | str = False,
    wandb_group: str | None = None,
    wandb_tags: list[str] = [],  # noqa: B006  (only read)
) -> int:
    """Search a space for the network that ranks best under a budget, without training any.

    Every network that is evaluated is one line of OUT/history.csv, written as it is made: after a Ctrl-C or a crash the
    same command goes on, and the result is the same as without the interruption, whatever the number of workers.
    OUT/found.json is the best network; every command that takes an architecture takes this file (found.json#2: the
    second best).

    Args:
        space: Search space: mbv2 (MobileNetV2 blocks, for ImageNet) or nb201 (NAS-Bench-201 cells).
        network: Options of the space's networks. For mbv2: num_classes, image_size, use_se, ...; for example
            '{image_size: 160, num_classes: 100}'. Default for mbv2: 224 pixels, 1000 classes; for nb201: 32 pixels, 10 classes,
            16 channels, 5 cells.
        strategy: How to search. evolution mutates the best of all networks so far; ageing mutates the best of a random
            choice of recent ones; random draws from the space; pareto (NSGA-II) looks for the best compromises between
            several objectives.
        evaluations: Networks to evaluate in all; more than before continues a finished search.
        population: evolution, pareto: parents are the best so many of all networks; ageing: the latest so many.
        tournament: ageing: a parent is the best of so many that are drawn from the population.
        objectives: pareto: what to look at: score (the ranking), macs, num_params, layers, latency_ms, peak_mb (less is better), or
            columns of proxies.
        start: evolution, pareto: network to begin with: a name such as mbv2_480m, a structure string, or a found.json.
            Default: mbv2_initial for mbv2, random networks for nb201.
        operator_sampling: mbv2: types of blocks are drawn uniformly, or with the weights of the published search code.
        batch: Networks that are proposed from one state of the search; they are shared out over the workers. The result
            depends on it, and not on the number of workers.
        max_macs: Budget: multiply-adds of one image, for example 450e6, 450M or 0.45G.
        min_macs: The same, a lower bound.
        max_params: Budget: parameters, written in the same way.
        min_params: The same, a lower bound.
        max_layers: Budget: number of layers (mbv2).
        min_layers: The same, a lower bound.
        counting: How the budget counts MACs and parameters: true, or reference (mbv2: as the published search code does,
            which differs by a few percent).
        max_latency_ms: Budget: time of a forward pass of one batch in milliseconds, measured on the device.
        max_peak_mb: Budget: most memory that a forward pass of one batch takes, in megabytes.
        measure_batch_size: Images per batch where time and memory are measured.
        measure_warmup: Passes before the first that is timed.
        measure_repeats: Passes that are timed; the median counts.
        ranking: What best means: a named set (vkdnw_agg, vkdnw_single, vkdnw_plus, az_nas, vkdnw_mbv2_official, ...), or own
            ones such as 'aleph>vkdnw+jacov+macs' (log-ranks added). The proxies that it needs are computed.
        proxies: Further proxies, or other parameters for those of the ranking; for example
            '[params, {name: vkdnw, alpha: 0.1}]'.
        batch_size: Images per batch that the proxies see.
        input: Images for proxies that take any: random, digits, a .npy file of images, a .npz file of images and labels,
            or the training images of a LightningDataModule, '{class_path: my.DataModule, init_args: {...}}'.
        data: Images, the same choices, for proxies that are defined on real ones (jacov, ...).
        init: Initialisation of the weights: auto is each proxy's own, or for all of them kaiming_normal, gaussian,
            zennas, pytorch, or keep.
        scores: Score table (scores.csv of a run of score) to look proxy values up in, in place of computing them.
        seed: Decides all random choices of the search.
        proxy_seed: Seed of weights and images of the proxies; with scores, the rows of the table that count.
        oracle: Known accuracies, to be shown beside what was found: digits (embedded), nb201 (public tables), nats, or a CSV
            file with columns arch,<data set>. They have no part in the search.
        oracle_path: Folder of the public tables or of NATS-Bench, if it is not the cache folder.
        top_k: found.json describes this many of the best.
        device: Where to compute; auto takes CUDA if there is some.
        workers: Processes: auto is one for each CPU core that may be used (or for each GPU). With nodes: on each machine.
        nodes: Machines; more than 1 are started with srun or torchrun, with so many processes on each as there are workers.
        row_timeout: Seconds that one network may take; one that takes longer becomes a failed row. Default: no limit.
        out: Run folder. Default: a name made from the settings, below runs/.
        overwrite: Delete the search that is in the run folder.
        figures: Draw the figures of the run folder.
        progress: Show how far it is; false for nothing but the results.
        wandb: Log to Weights & Biases too: true (the project vkdnw_pl, or WANDB_PROJECT), PROJECT, or ENTITY/PROJECT.
            Without a key or network it writes offline into OUT/wandb.
        wandb_group: Group of the run there. Default: all runs of this search.
        wandb_tags: Tags of the run there, such as '[first, second]'.

    Returns:
        0 if a network was found, 1 if none, 130 after Ctrl-C.

    Raises:
        UsageError: if an option is not allowed, or the run folder holds a search with other settings.
        CommandFailed: if the run folder is in use, or the search cannot go on.
    """
    options = dict(locals())
    began_at = time.monotonic()
    try:
        with user_input():
            wandb_options(options)
            plan = plan_search(options)
    except ImportError as error:
        raise CommandFailed(str(error)) from error
    if plan.helps:
        return _help(plan)
    folder = SearchFolder(out or f"runs/search-{plan.settings.space}-{plan.settings.digest()}")
    options.update(out=str(folder.path), overwrite=False)
    with user_input():
        folder.check_continues(plan.settings.record(), overwrite)
    try:
        with folder.lock():
            return _run(plan, folder, options, overwrite, began_at)
    except FolderBusy as error:
        raise CommandFailed(str(error)) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"out={out!r} is not allowed: {error.filename} is a file") from error


def _run(plan: SearchPlan, folder: SearchFolder, options: Mapping[str, Any], overwrite: bool, began_at: float) -> int:
    settings = plan.settings
    with user_input():
        if overwrite:
            folder.clear()
        folder.check_continues(settings.record())
        done = len(folder.read_candidates())
    _say_what(plan, folder, done)
    record = RunRecord(folder, options, settings.record(), settings.device, evaluations=plan.evaluations)
    group = group_of("search", settings.digest())
    with record, tracked_run(options, folder.path, "search", record.meta, group) as tracked:
        return tracked.ended(_search_and_describe(plan, folder, options, record, done, began_at, tracked))


def _search_and_describe(
    plan: SearchPlan,
    folder: SearchFolder,
    options: Mapping[str, Any],
    run: RunRecord,
    done: int,
    began_at: float,
    tracked: Tracked,
) -> int:
    """Make the missing part of the history and say what was found."""
    settings = plan.settings
    stopped, outcome = None, Outcome()
    if done < plan.evaluations or plan.nodes > 1:  # helpers wait to be dismissed
        try:
            outcome = _search(plan, folder, done, options["progress"], tracked)
        except Stopped as stop:
            stopped = stop
        except HistoryMismatch as error:
            raise UsageError(str(error)) from error
        except NotInTable as error:
            raise UsageError(f"scores={settings.scores!r} is not allowed: {error}") from error
    record = whole_record(settings, folder.read_candidates())
    accuracies = None if plan.oracle is None else plan.oracle.tables
    found = describe_found(settings, settings.make_space(), record, plan.top_k, accuracies)
    if found is not None:
        folder.write_found(found)
        log_found(tracked, found)
    failed = sum(candidate.failed for candidate in record)
    run.end(
        "stopped" if stopped else "exhausted" if outcome.exhausted else "finished",
        workers=plan.workers,
        evaluated=len(record) - done,
        evaluated_in_all=len(record),
        failed=failed,
        stopped_by=stopped.name if stopped else None,
    )
    tracked.summary({"evaluated": len(record), "failed": failed})
    tracked.artifact("search", [folder.found, folder.history, folder.config, folder.meta])
    if stopped is not None:
        best = f", the best so far is in {folder.found}" if found is not None else ""
        print(
            f"\nstopped by {stopped.name}: {len(record)} of {plan.evaluations} networks are kept in {folder.path}{best}. "
            f"Continue with: python -m vkdnw_pl search --config {shlex.quote(str(folder.config))}",
            file=sys.stderr,
        )
        return 128 + stopped.signum
    if outcome.exhausted:
        print(f"the search ends after {len(record)} of {plan.evaluations} networks: {outcome.exhausted}")
    _say_failures(record)
    if found is None:
        print(_nothing(record, outcome), file=sys.stderr)
        return 1
    if options["figures"] and settings.terms:
        tracked.images(_draw(plan, folder, record))
    _say_found(plan, folder, record, found, len(record) - done, began_at)
    return 0


def _search(plan: SearchPlan, folder: SearchFolder, done: int, shown: bool, tracked: Tracked) -> Outcome:
    """Make the missing part of the history."""
    from vkdnw_pl.tracking.curves import SearchCurve

    settings = plan.settings
    tracked.axis("search", "search/evaluated")
    curve = SearchCurve(tracked.log)
    with stop_signals(), Progress(plan.evaluations, done, "searching", "network", shown) as display:
        observers = [SearchProgress(settings, folder, plan.top_k, display), *([curve] if tracked.active else [])]
        try:
            with open_scores(settings, plan.workers, plan.nodes, plan.row_timeout, display.waiting) as evaluate:
                return run_search(settings, folder, plan.evaluations, evaluate, observers)
        except WorkerDied as death:
            raise CommandFailed(f"a worker died: {death}. The networks so far are kept; run it again") from death
        finally:
            curve.close()


def _help(plan: SearchPlan) -> int:
    """Score for the first process, which keeps the history."""
    from vkdnw_pl.scoring.scorer import Scorer
    from vkdnw_pl.scoring.workers import help_first

    settings = plan.settings
    with suppress(Stopped), stop_signals():  # the first process was told too, and says so
        help_first(Scorer.of(settings), settings.device, plan.workers, plan.nodes, plan.row_timeout)
    return 0


def _draw(plan: SearchPlan, folder: SearchFolder, record: RankedHistory) -> list[Path]:
    from vkdnw_pl.report.search_figures import search_figures

    settings = plan.settings
    return search_figures(
        list(record),
        settings.ranking,
        folder.figures,
        settings.space,
        settings.budget.min_macs,
        settings.budget.max_macs,
        settings.objectives if settings.strategy == "pareto" else (),
    )


def _say_what(plan: SearchPlan, folder: SearchFolder, done: int) -> None:
    settings = plan.settings
    budget = ", ".join(
        f"{name} {value:,}" if isinstance(value, int | float) else f"{value} counting"
        for name, value in settings.budget.record().items()
    )
    values = f"values from {settings.scores}" if settings.scores else f"on {settings.device}"
    print(
        f"searching {settings.space} by {settings.strategy} for the best of {plan.evaluations:,} networks by "
        f"{settings.ranking}, {values}, run folder {folder.path}\nbudget: {budget}"
    )
    if done >= plan.evaluations:
        print(f"this search is finished: {done:,} networks are there (for more, give --evaluations)")
    elif done:
        print(f"{done:,} of {plan.evaluations:,} networks are there already")
    sys.stdout.flush()


def _say_failures(record: RankedHistory) -> None:
    reasons = Counter(candidate.reason for candidate in record if candidate.failed)
    if reasons:
        print(f"FAILED: {reasons.total()} of {len(record)} networks; the reasons stand in the history. Most frequent:")
        for reason, count in reasons.most_common(3):
            print(f"  {count} x {reason if len(reason) <= 200 else reason[:200] + ' ...'}")


def _nothing(record: RankedHistory, outcome: Outcome) -> str:
    if len(record):
        return "nothing was found: every network failed"
    return f"nothing was found: {outcome.exhausted}; widen the budget, or choose another start"


def _say_found(
    plan: SearchPlan, folder: SearchFolder, record: RankedHistory, found: Mapping[str, Any], made: int, began_at: float
) -> None:
    print(f"\nbest of {len(record):,} networks by {found['ranking']} (network {found['index']} of the history):\n")
    print(f"  {found['arch']}\n")
    layers = f", {found['layers']} layers" if found["layers"] is not None else ""
    size, classes = found["input_size"], found["num_classes"]
    print(
        f"  {found['macs'] / 1e6:,.1f} M MACs, {found['num_params'] / 1e6:,.3f} M parameters{layers} "
        f"(at {size[1]} x {size[2]} pixels, {classes} classes)"
    )
    if "reference" in found:
        counted = found["reference"]
        print(f"  as the published code counts: {counted['macs'] / 1e6:,.1f} M, {counted['num_params'] / 1e6:,.3f} M")
    for name, unit in (("latency_ms", "ms"), ("peak_mb", "MB")):
        if found[name] is not None:
            print(f"  {name} {found[name]:.4g} {unit} for a batch of {plan.settings.how_to_measure.batch_size}")
    print(f"  score {found['score']:.4f}: {_values(found['scores'])}")
    if plan.oracle is not None:
        for dataset, accuracy in found["accuracies"].items():
            known = plan.oracle.tables[dataset]
            text = "not known" if accuracy is None else f"{accuracy:.2f} %"
            print(
                f"  known accuracy on {dataset} ({plan.oracle.split[dataset]}): {text}; best known {max(known.values()):.2f} %"
            )
    top = found["top"][:_SHOWN]
    if len(top) > 1:
        print("\n  rank  score     MACs (M)  params (M)  network of the history")
        for one in top:
            print(
                f"  {one['rank']:<4}  {one['score']:<8.4f}  {one['macs'] / 1e6:<8.1f}  {one['num_params'] / 1e6:<10.3f}  {one['index']}"
            )
    seconds = time.monotonic() - began_at
    print(f"\n{made:,} networks evaluated now, {seconds:.0f} s in all; history: {folder.history}")
    print(f"found: {folder.found}")
    config = plan.settings.make_space().training_config
    print(
        "train it with: python -m vkdnw_pl fit "
        f"{f'--config {config} ' if config else ''}--model.arch {shlex.quote(str(folder.found))}"
    )


def _values(scores: Mapping[str, float | None]) -> str:
    shown = {name: value for name, value in scores.items() if "_decile_" not in name}
    return ", ".join(f"{name} {'-' if value is None else f'{value:.5g}'}" for name, value in shown.items())

"""The command ``search``."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from vkdnw_pl.commands.results import print_failures, print_notes
from vkdnw_pl.data.own_images import image_folder_args
from vkdnw_pl.errors import CommandFailed, UsageError, WorkerDied, program, user_input
from vkdnw_pl.options import as_config
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import weights_text
from vkdnw_pl.runs.files import write_json
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.signals import Stopped, stop_signals
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.search.folder import SearchFolder, describe_found, rank_candidates
from vkdnw_pl.search.history import RankedHistory
from vkdnw_pl.search.known_best import known_best
from vkdnw_pl.search.loop import HistoryMismatch, SearchObserver, SearchProgress
from vkdnw_pl.search.loop import search as run_search
from vkdnw_pl.search.plan import SearchOptions, SearchPlan, plan_search
from vkdnw_pl.search.scores import NotInTable, open_scores
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.tracking.results import SearchCurve, log_found
from vkdnw_pl.tracking.run import WandbRun, wandb_run

_SHOWN = 5


def search(options: SearchOptions) -> int:
    """Search a space for the network that ranks best under a budget, without training any.

    Every network that is evaluated is one line of OUT/history.csv, written as it is made: after a Ctrl-C or a crash the
    same command goes on, and the result is the same as without the interruption, whatever the number of workers.
    OUT/found.json is the best network; every command that takes an architecture takes this file (found.json#2: the
    second best).

    Returns:
        0 if a network was found and none failed, 1 if none was found or some failed, 130 after Ctrl-C.
    """
    began_at = time.monotonic()
    try:
        with user_input():
            plan = plan_search(options)
    except ImportError as error:
        raise CommandFailed(str(error)) from error
    if plan.helps:
        return _help(options, plan)
    settings = plan.settings
    folder = SearchFolder(options.out or plan.default_out)
    with user_input():
        folder.check_continues(settings.record(), options.overwrite)
    with folder.lock():
        with user_input():
            if options.overwrite:
                folder.clear()
            folder.check_continues(settings.record())
            done = len(folder.read_candidates())
        _print_plan(options, plan, folder, done)
        config = as_config(replace(options, **plan.resolved, out=str(folder.path), overwrite=False))
        record = RunRecord(
            folder, config, settings.record(), settings.device, evaluations=options.evaluations, notes=plan.notes
        )
        group = f"search-{settings.digest()}"
        with record, wandb_run(options, config, folder.path, "search", record.meta, group) as run:
            run.exit_code = _search_and_describe(options, plan, folder, record, done, run, began_at)
            return run.exit_code


def _search_and_describe(
    options: SearchOptions,
    plan: SearchPlan,
    folder: SearchFolder,
    record: RunRecord,
    done: int,
    run: WandbRun,
    began_at: float,
) -> int:
    """Make the missing part of the history and say what was found."""
    settings = plan.settings
    stopped = exhausted = None
    if done < options.evaluations or options.nodes > 1:  # helpers wait to be dismissed
        try:
            exhausted = _search(options, plan, folder, done, run)
        except Stopped as stop:
            stopped = stop
        except HistoryMismatch as error:
            raise UsageError(str(error)) from error
        except NotInTable as error:
            raise UsageError(f"scores={settings.scores!r} is not allowed: {error}") from error
    history = rank_candidates(settings, folder.read_candidates())
    found = describe_found(settings, settings.make_space(), history, options.top_k, plan.oracle)
    if found is not None:
        write_json(folder.found, found)
        log_found(run, found)
    failed = sum(candidate.failed for candidate in history)
    record.meta["cautions"] = [] if plan.oracle is None else plan.oracle.warnings
    record.end(
        "stopped" if stopped else "exhausted" if exhausted else "finished",
        workers=plan.workers,
        evaluated=len(history) - done,
        evaluated_in_all=len(history),
        failed=failed,
        stopped_by=stopped.name if stopped else None,
    )
    run.summary({"evaluated": len(history), "failed": failed})
    run.artifact("search", [folder.found, folder.history, folder.config, folder.meta])
    if stopped is not None:
        best = f", the best so far is in {folder.found}" if found is not None else ""
        print(
            f"\nstopped by {stopped.name}: {len(history)} of {options.evaluations} networks are kept in "
            f"{folder.path}{best}. Continue with: {program()} search --config {shlex.quote(str(folder.config))}",
            file=sys.stderr,
        )
        return stopped.exit_code
    if exhausted:
        print(f"the search ends after {len(history)} of {options.evaluations} networks: {exhausted}")
    print_failures(list(history), "networks", "history")
    if found is None:
        reason = "every network failed" if len(history) else f"{exhausted}; widen the budget, or choose another start"
        print(f"nothing was found: {reason}", file=sys.stderr)
        return 1
    if options.figures and settings.terms:
        from vkdnw_pl.report.figures.searches import search_figures

        budget, objectives = settings.budget, settings.objectives if settings.strategy == "pareto" else ()
        bounds = budget.min_macs, budget.max_macs
        run.images(search_figures(list(history), settings.ranking, folder.figures, settings.space, *bounds, objectives))
    _print_found(plan, folder, history, found)
    seconds = time.monotonic() - began_at
    print(f"\n{len(history) - done:,} networks evaluated now, {seconds:.0f} s in all; history: {folder.history}")
    print(f"found: {folder.found}")
    images = _images(plan.resolved.get("data") or plan.resolved.get("input") or options.data)
    on_images = f"--config configs/small_data.yaml --data {images}"
    published = settings.make_space().training_config
    recipe = on_images if plan.resolved else f"--config {published}" if published else ""
    own_space = f" --model.space {settings.space}" if "." in settings.space else ""  # no file names a class alone
    found_file = shlex.quote(str(folder.found))
    print(f"train it with: {program()} fit {recipe}{' ' if recipe else ''}--model.arch {found_file}{own_space}")
    print(
        f"is it better than chance? {program()} label --archs {shlex.quote(f'{folder.found},random:5')} {on_images}"
        f"{own_space}"
    )
    return 1 if failed else 0


def _images(data: str | Mapping[str, Any]) -> str:
    """The images that the proxies saw, as fit and label take them; a word in capitals where those are none to train on."""
    if isinstance(data, str):
        return "FOLDER_OF_IMAGES"
    if (args := image_folder_args(data)) is None:
        return shlex.quote(json.dumps(dict(data)))
    return " --data.".join(
        [shlex.quote(args.pop("root")), *(f"{name} {json.dumps(value)}" for name, value in args.items())]
    )


def _search(options: SearchOptions, plan: SearchPlan, folder: SearchFolder, done: int, run: WandbRun) -> str | None:
    """Make the missing part of the history; see `run_search`."""
    settings = plan.settings
    curve = SearchCurve(run)
    with stop_signals(), Progress(options.evaluations, done, "searching", "network", options.progress) as display:
        observers: list[SearchObserver] = [SearchProgress(settings, folder, options.top_k, display), curve]
        try:
            with open_scores(settings, plan.workers, options.nodes, options.row_timeout, display.waiting) as evaluate:
                return run_search(settings, folder, options.evaluations, evaluate, observers)
        except WorkerDied as death:
            raise CommandFailed(f"a worker died: {death}. The networks so far are kept; run it again") from death
        finally:
            curve.close()


def _help(options: SearchOptions, plan: SearchPlan) -> int:
    """Score for the first process, which keeps the history."""
    from vkdnw_pl.scoring.scorer import Scorer
    from vkdnw_pl.scoring.workers import help_first

    settings = plan.settings
    with suppress(Stopped), stop_signals():  # the first process was told too, and says so
        help_first(Scorer(settings), settings.device, plan.workers, options.nodes, options.row_timeout)
    return 0


def _print_plan(options: SearchOptions, plan: SearchPlan, folder: SearchFolder, done: int) -> None:
    settings = plan.settings
    budget = ", ".join(
        f"{name} {value:,}" if isinstance(value, int | float) else f"{value} counting"
        for name, value in settings.budget.record().items()
    )
    values = f"values from {settings.scores}" if settings.scores else f"on {settings.device}"
    print(
        f"searching {settings.space} by {settings.strategy} for the best of {options.evaluations:,} networks by "
        f"{settings.ranking}, {values}, run folder {folder.path}\nbudget: {budget}"
    )
    if settings.labels is not None:
        print(
            f"guided by labels, the accuracies on {settings.labels.text}: each network costs one of {len(settings.labels):,}"
        )
    if plan.why_network:
        print(f"networks {json.dumps(dict(settings.network))}: {plan.why_network}")
    print_notes(plan.notes)
    if done >= options.evaluations:
        print(f"this search is finished: {done:,} networks are there (for more, give --evaluations)")
    elif done:
        print(f"{done:,} of {options.evaluations:,} networks are there already")
    sys.stdout.flush()


def _print_found(plan: SearchPlan, folder: SearchFolder, history: RankedHistory, found: Mapping[str, Any]) -> None:
    print(f"\nbest of {len(history):,} networks by {found['ranking']} (network {found['index']} of the history):\n")
    print(f"  {found['arch']}\n")
    layers = f", {found['layers']} layers" if found["layers"] is not None else ""
    size, classes = found["input_size"], found["num_classes"]
    print(
        f"  {found['macs'] / 1e6:,.1f} M MACs, {found['num_params'] / 1e6:,.3f} M parameters{layers} "
        f"(at {size[1]} x {size[2]} pixels, {classes} classes)"
    )
    if "reference" in found:
        cost = found["reference"]
        print(f"  as the published code counts: {cost['macs'] / 1e6:,.1f} M, {cost['num_params'] / 1e6:,.3f} M")
    for name, unit in (("latency_ms", "ms"), ("peak_mb", "MB")):
        if found[name] is not None:
            table = plan.settings.latency_table if name == "latency_ms" else None
            where = f"for a batch of {plan.settings.how_to_measure.batch_size}" if table is None else f"by {table}"
            print(f"  {name} {found[name]:.4g} {unit} {where}")
    print(f"  score {found['score']:.4f}: {_values(found['scores'])}")
    if "weights" in found:
        print(f"  {weights_text(found['ranking'], found['weights'])}")
    if (labels := plan.settings.labels) is not None:
        print(f"  labels used: {len(history):,} of the {len(labels):,} on {labels.text}")
    if plan.oracle is not None:
        _print_known(plan.settings, plan.oracle, found)
    if len(found["top"]) > 1:
        print("\n  rank  score     MACs (M)  params (M)  network of the history")
        for entry in found["top"][:_SHOWN]:
            macs, num_params = entry["macs"] / 1e6, entry["num_params"] / 1e6
            print(f"  {entry['rank']:<4}  {entry['score']:<8.4f}  {macs:<8.1f}  {num_params:<10.3f}  {entry['index']}")


def _print_known(settings: SearchSettings, oracle: Oracle, found: Mapping[str, Any]) -> None:
    """What is known of the found network, and what of all within the budget: how far from the optimum it is."""
    optima = known_best(settings, settings.make_space(), oracle)
    for dataset, value in found["accuracies"].items():
        measure, best = oracle.measure(dataset), optima.get(dataset)
        what = f"accuracy on {measure.title}" if measure.is_accuracy else f"value of {measure.title}"
        line = f"  known {what}: {'not known' if value is None else measure.text(value)}"
        if best is not None:
            within = " within the budget" if best.within_budget and settings.budget.bounds else ""
            line += f"; best known{within} {measure.text(best.value)}"
            if value is not None:
                better = sum(measure.sign * other > measure.sign * value for other in best.values.values())
                line += f" ({better:,} of {len(best.values):,} are better)"
        print(line)


def _values(scores: Mapping[str, float | None]) -> str:
    shown = {name: value for name, value in scores.items() if "_decile_" not in name}
    return ", ".join(f"{name} {'-' if value is None else f'{value:.5g}'}" for name, value in shown.items())

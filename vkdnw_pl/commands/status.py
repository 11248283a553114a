"""The command ``status``."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass

from vkdnw_pl.cluster.record import LaunchFolder, launches_of
from vkdnw_pl.cluster.tasks import current_states, exit_code, follow, print_states
from vkdnw_pl.errors import UsageError, user_input


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """Options of ``status``."""

    out: str
    """Run folder that was given to --launch, or to the scripts of slurm/."""
    wait: bool = False
    """Follow the jobs until all have ended. Ctrl-C ends the waiting, not the jobs."""
    resubmit: bool = False
    """Submit again what failed, was lost or is missing, and only that."""
    json: bool = False
    """Print the table as JSON."""


def status(options: StatusOptions) -> int:
    """Show what became of the jobs of a launch, follow them, and submit again what failed.

    A task is finished when its run folder says so and holds all rows, whatever SLURM says; failed, when it ended before
    that; lost, when SLURM does not know it and it left no end.

    Returns:
        0 if all is done, or on its way without --wait; 1 if something failed; 130 after Ctrl-C.
    """
    with user_input():
        launches = launches_of(options.out)
    codes = []
    for command, launch in launches.items():
        if len(launches) > 1 and not options.json:
            print(f"{command}:")
        folder = LaunchFolder(options.out, command)
        if options.resubmit:
            if not launch.script:
                raise UsageError(f"{options.out} was made by scripts called by hand, not by --launch; call them again")
            from vkdnw_pl.cluster.launch import resubmit

            launch = resubmit(folder)
        if options.wait:
            code = follow(folder, launch, quiet=options.json)
            if not options.json:
                codes.append(code)
                continue
        states, trouble = current_states(folder, launch)
        if options.json:
            tasks = [state.record() for state in states]
            content = {"command": command, "out": options.out, "trouble": trouble, "tasks": tasks}
            print(json_format.dumps(content, indent=2, ensure_ascii=False))
        else:
            print_states(folder, launch, states)
            if trouble:
                print(f"SLURM does not answer: {trouble}")
        codes.append(1 if trouble else exit_code(states))
    return max(codes)

"""The command ``status``."""

from __future__ import annotations

import json as json_format

from vkdnw_pl.cluster.discover import launches_of
from vkdnw_pl.cluster.record import LaunchFolder
from vkdnw_pl.commands.follow import INTERRUPTED, exit_code, follow, look, print_states
from vkdnw_pl.commands.launch import resubmit as submit_again
from vkdnw_pl.errors import UsageError, user_input


def status(out: str, wait: bool = False, resubmit: bool = False, json: bool = False) -> int:
    """Show what became of the jobs of a launch, follow them, and submit again what failed.

    A task is finished when its run folder says so and holds all rows, whatever SLURM says; failed, when it ended before
    that; lost, when SLURM does not know it and it left no end.

    Args:
        out: Run folder that was given to --launch, or to the scripts of slurm/.
        wait: Follow the jobs until all have ended. Ctrl-C ends the waiting, not the jobs.
        resubmit: Submit again what failed, was lost or is missing, and only that.
        json: Print the table as JSON.

    Returns:
        0 if all is done, or on its way without --wait; 1 if something failed; 130 after Ctrl-C.

    Raises:
        UsageError: if nothing was launched into the folder.
        CommandFailed: if SLURM refuses.
    """
    with user_input():
        found = launches_of(out)
    codes = []
    for command, launched in found.items():
        if len(found) > 1 and not json:
            print(f"{command}:")
        folder = LaunchFolder(out, command)
        if resubmit:
            if not launched.script:
                raise UsageError(
                    f"{out} was not made by --launch but by scripts called by hand; submit its tasks again by hand too"
                )
            launched = submit_again(folder)
        if wait and not json:
            codes.append(follow(folder, launched))
            continue
        if wait and follow(folder, launched, quiet=True) == INTERRUPTED:
            return INTERRUPTED
        states, trouble = look(folder, launched)
        if json:
            content = {
                "command": command,
                "out": out,
                "trouble": trouble,
                "tasks": [state.record() for state in states],
            }
            print(json_format.dumps(content, indent=2, ensure_ascii=False))
        else:
            print_states(folder, launched, states)
            if trouble:
                print(f"SLURM does not answer: {trouble}")
        codes.append(1 if trouble else exit_code(states))
    return max(codes)

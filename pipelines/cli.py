"""From a phone video to a 3D Gaussian avatar that you can drive."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from deja_vu.core.errors import ConfigError
from deja_vu.core.stopwatch import command_begins
from deja_vu.pipelines.command import Command
from deja_vu.pipelines.endings import ending, files_fail_once, refuse_gone_folder, refuse_too_little_space, signals_stop
from deja_vu.pipelines.help_text import overview

COMMANDS = {
    "personalize": "Make a drivable avatar from a video.",
    "reconstruct": "Make a drivable avatar from one photo, or several of one person, in seconds.",
    "view": "Look at avatars in the browser: turn them, move their faces, play motions.",
    "drive": "Animate an avatar with somebody's motion.",
    "export": "Export an avatar as a file for other programs, or as a web page.",
    "report": "Write report.html again: one page with the scores and pictures of a run.",
    "evaluate": "Score an avatar on its held-out frames.",
    "track": "Track a video into a folder that other commands read.",
    "import": "Convert another program's data set to the layout that other commands read.",
    "demo": "Try everything once: make an avatar from a synthetic person's video (or yours), and animate it.",
    "sample": "Write a video of a synthetic person, with its exact ground truth.",
    "doctor": "Show what is installed here, and how to get what is missing.",
    "prepare": "Find, crop and fit the heads in folders of photos, for `deja-vu generalize`.",
    "generalize": "Train the network that turns one photo into a head, on photos of many people.",
    "evaluate-prior": "Score networks trained by `deja-vu generalize` on people they never saw.",
    "benchmark": "Make and score avatars from several clips; with --paths, compare several kinds of avatar.",
    "compare-starts": "Compare, over time, trainings that start from the network with others that do not.",
}
"""Every command and its one line. Its file is the one of that name in `pipelines/commands`, which is loaded when it is asked for."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `deja-vu`; mistakes of the user end with exit code 2 and one clear message."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without bullets or accents gets question marks
    try:
        with signals_stop(), files_fail_once(), command_begins():
            dispatch(words)
            sys.stdout.flush()
    except BaseException as error:
        end = ending(error, words[0] if words else "")
        if end is None:
            raise
        said, code = end
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if said:
            with contextlib.suppress(OSError):  # whoever would read it is gone
                print(f"deja-vu: {said}", file=sys.stderr)
        sys.exit(code)


def dispatch(words: Sequence[str]) -> None:
    """Do what a command line asks for.

    Raises:
        DejaVuError: of any kind.
    """
    first = words[0] if words else "--help"
    if first in ("-h", "--help", "--help-all", "help"):
        print(overview(COMMANDS, __doc__ or ""))
    elif first in ("--version", "-V"):
        from deja_vu.io.provenance import version_line

        print(version_line())
    elif first in COMMANDS:
        refuse_too_little_space()
        refuse_gone_folder()
        load_command(first)(first, words[1:])
    else:
        close = difflib.get_close_matches(first, COMMANDS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"There is no command '{first}'.{hint} All commands: deja-vu --help")


def load_command(name: str) -> Command:
    """The command of a name in `COMMANDS`."""
    command: Command = importlib.import_module(f"deja_vu.pipelines.commands.{name.replace('-', '_')}").COMMAND
    return command


if __name__ == "__main__":
    main()

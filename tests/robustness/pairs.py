"""Two commands at once in one folder: the second is told who holds it, or both results are whole. Run: python -m tests.robustness.pairs."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from deja_vu.pipelines.cli import COMMANDS, load_command
from tests.robustness.children import Child, Outcome
from tests.robustness.compare import litter
from tests.robustness.kills import PHOTO
from tests.robustness.stages import Workshop


@dataclass(frozen=True)
class Pair:
    """Two command lines; RUN is a finished run, NEW a folder or file that is not there yet."""

    first: tuple[str, ...]
    second: tuple[str, ...]


def pairs(shop: Workshop) -> list[Pair]:
    """All that may meet in a folder."""
    film, other, recipe, prior = (str(shop.folder / name) for name in ("film.mp4", "other.mp4", "recipe.yaml", "prior.yaml"))
    tracked, shards, script = (str(shop.folder / name) for name in ("tracked", "shards", "script.yaml"))
    new = ("--out", "NEW", "--config", recipe)
    again = ("personalize", tracked, "--out", "RUN", "--config", recipe, "--overwrite")
    prepare = ("prepare", tracked, "--out", "NEW", "--config", prior, "--made-up", "1")
    generalize = ("generalize", "--data", shards, "--out", "NEW", "--config", prior)
    shown = {
        "report": ("report", "RUN"),
        "evaluate": ("evaluate", "RUN", "--frames", "2", "--json", "NEW.json"),
        "export": ("export", "RUN", "--format", "web", "--out", "NEW"),
        "drive": ("drive", "RUN", "--motion", script, "--out", "NEW.mp4"),
    }
    return [
        Pair(("personalize", tracked, *new), ("personalize", tracked, *new)),
        Pair(("track", film, *new), ("track", other, *new)),
        Pair(("track", film, *new), ("personalize", tracked, *new)),
        *(Pair(again, words) for words in shown.values()),
        Pair(again, again),
        Pair(shown["report"], shown["evaluate"]),
        Pair(shown["report"], shown["report"]),
        Pair(shown["export"], shown["drive"]),
        Pair(shown["drive"], shown["drive"]),
        Pair(shown["export"], shown["export"]),
        Pair(prepare, prepare),
        Pair(generalize, generalize),
        Pair(("reconstruct", str(PHOTO), "--out", "NEW"), ("track", film, *new)),
    ]


def meet(pair: Pair, run: Path, folder: Path, share: float) -> list[str]:
    """Start one command, and the other when the first has made a share of two hundred changes; what was not as it must be.

    Args:
        pair: commands.
        run: finished run, of which each trial gets a copy.
        folder: for the trial.
        share: 0 starts both at once.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(run, folder / "run")
    places = {"RUN": str(folder / "run"), "NEW": str(folder / "new")}

    def line(words: tuple[str, ...]) -> list[str]:
        return [re.sub("RUN|NEW", lambda found: places[found[0]], word) for word in words]

    first = Child(line(pair.first), folder / "first.log")
    first.after(round(200 * share))
    second = Child(line(pair.second), folder / "second.log")
    ended = second.wait(), first.wait()
    faults = [
        f"{words[0]} ended with {outcome.code}: {outcome.said.strip().splitlines()[-1][:300]}"
        for words, outcome in zip((pair.second, pair.first), ended, strict=True)
        if not _fine(outcome, ended)
    ]
    if all(outcome.code for outcome in ended):
        faults.append("neither succeeded")
    return faults + [f"left: {name}" for name in litter(folder)]


def _fine(outcome: Outcome, both: tuple[Outcome, Outcome]) -> bool:
    """Whether a command succeeded, or was told who holds the place, or that the other has just filled it."""
    told = re.search(r"in use by process (\d+) on \S+ since .*: deja-vu ", outcome.said)
    if told:
        return int(told[1]) in [one.pid for one in both]
    return outcome.code == 0 or (outcome.code == 2 and "already. Add" in outcome.said)


def main() -> int:
    """Let all pairs meet; 0 if none broke the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/pairs"))
    parser.add_argument("--shares", type=float, nargs="*", default=[0.0, 0.3, 1.0])
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    for name in COMMANDS:
        load_command(name)
    import deja_vu.pipelines.generalize
    import deja_vu.pipelines.personalize
    import deja_vu.pipelines.reconstruct  # noqa: F401  (what forked processes need, loaded once)

    folder, bad = options.folder.absolute(), 0
    shop = Workshop(folder / "workshop", PHOTO)
    shop.stages()
    for pair in pairs(shop):
        for share in options.shares:
            faults = meet(pair, folder / "workshop" / "run", folder / "trial", share)
            bad += bool(faults)
            print(f"{pair.first[0]:>12} + {pair.second[0]:<12} {share:.1f}  {'; '.join(faults) or 'fine'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""Kill every stage at random moments, go on, and see whether the result is the one of a run that nobody killed: `make kills`.

Of every stage's moments half are drawn evenly over the time that it takes, half over the changes that it makes to files, and every second
one while a finished result is being replaced with --overwrite.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from deja_vu.pipelines.cli import COMMANDS, load_command
from deja_vu.pipelines.own_files import RECORD
from tests.robustness.children import Child, Moment, Outcome, run
from tests.robustness.compare import differences, fingerprints, litter
from tests.robustness.stages import Stage, Workshop

PHOTO = Path(__file__).parents[1] / "data" / "faces" / "female_00.jpg"


@dataclass(frozen=True)
class Trial:
    """A kill and what followed."""

    stage: str
    moment: Moment
    replacing: bool
    at: str
    """Last change before the kill."""
    faults: tuple[str, ...]
    """What was not as it must be; none if all is well."""


class Killer:
    """The trials of one stage."""

    def __init__(self, stage: Stage, folder: Path, seed: int) -> None:
        """Run the stage once, to its end.

        Args:
            stage: to be tried.
            folder: for its trials.
            seed: of the moments.
        """
        self.stage, self.folder, self.random = stage, folder, random.Random(f"{stage.name} {seed}")
        trial = self._fresh("trial")  # where all others are made: records hold paths
        outcome = run(stage.command(trial), trial / "log", environment=self._environment(trial))
        if outcome.code:
            raise RuntimeError(f"{stage.name} ended with {outcome.code}: {outcome.said[-2000:]}")
        self.whole = folder / "whole"
        shutil.rmtree(self.whole, ignore_errors=True)
        trial.rename(self.whole)
        self.outcome, self.wanted = outcome, fingerprints(self.whole / stage.out)

    def moments(self, count: int) -> list[Moment]:
        """Half evenly over the time, half over the changes."""
        times = [0.0, *(at for at, _ in self.outcome.changes), self.outcome.seconds]
        found = []
        for number in range(count):
            if number % 2:
                at = self.random.uniform(0, self.outcome.seconds)
                change = max(place for place, since in enumerate(times) if since <= at)
                found.append(Moment(change, at - times[change]))
            else:
                change = self.random.randint(0, len(self.outcome.changes))
                gap = times[min(change + 1, len(times) - 1)] - times[change]
                found.append(Moment(change, self.random.choice((0.0, self.random.uniform(0, gap)))))
        return found

    def trial(self, moment: Moment, *, replacing: bool) -> Trial:
        """Kill once, and go on."""
        stage, folder = self.stage, self._fresh("trial")
        replacing = replacing and stage.replaces
        out = folder / stage.out
        if replacing:
            _copy(self.whole / stage.out, out)
        environment = self._environment(folder)
        flags = ("--overwrite",) if replacing else ()
        killed = Child(stage.command(folder, *flags), folder / "killed.log", environment=environment).kill_at(moment)
        faults: list[str] = []
        if killed.code not in (0, -9):
            faults.append(f"ended with {killed.code} before it was killed: {_last(killed)}")
        if replacing and killed.code:
            faults += self._lost(out)
        again = self._go_on(folder, flags, environment, over=killed.code == 0)
        if again.code and not ("already. Add" in again.said and not differences(fingerprints(out), self.wanted)):
            faults.append(f"the second run ended with {again.code}: {_last(again)}")
        elif other := differences(fingerprints(out), self.wanted):
            faults.append(f"differs: {', '.join(other[:6])}")
        if left := [name for name in litter(folder)]:
            faults.append(f"left: {', '.join(left[:6])}")
        at = killed.changes[-1][1].replace(str(folder), "") if killed.changes else "start"
        if faults:
            shutil.rmtree(keep := self.folder / f"fault_{stage.name.replace(' ', '_')}_{moment.change}", ignore_errors=True)
            shutil.copytree(folder, keep, symlinks=True)
        return Trial(stage.name, moment, replacing, at, tuple(faults))

    def _go_on(self, folder: Path, flags: tuple[str, ...], environment: dict[str, str], *, over: bool) -> Outcome:
        """The second run: with --resume where there is something to resume, else the same command again."""
        stage, log = self.stage, folder / "again.log"
        if over and (not stage.begin):  # it had ended before the kill
            return Outcome(0, "", 0.0)
        for extra in [stage.goes_on, flags] if stage.goes_on else [flags]:
            again = run(stage.command(folder, *extra), log, environment=environment)
            if again.code == 0 or "no run to resume" not in again.said:
                break
        return again

    def _lost(self, out: Path) -> list[str]:
        """What a kill has cost the finished result that was being replaced by its like."""
        found = fingerprints(out) if out.exists() else {}
        lost = [name for name, value in self.wanted.items() if found.get(name) != value and name != RECORD]
        return [f"the old result lost {', '.join(lost[:6])}"] if lost else []

    def _fresh(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "tmp").mkdir(parents=True)
        if self.stage.begin:
            _copy(Path(self.stage.begin), folder / self.stage.out)
        return folder

    def _environment(self, folder: Path) -> dict[str, str]:
        return {"TMPDIR": str(folder / "tmp")}


def _copy(source: Path, target: Path) -> None:
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def _last(outcome: Outcome) -> str:
    return (outcome.said.strip().splitlines() or [""])[-1][:300]


def main() -> int:
    """Try the stages that are named, or all; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stages", nargs="*", help="names of stages; all without any")
    parser.add_argument("--count", type=int, default=20, help="kills a stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/kills"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    for name in COMMANDS:
        load_command(name)
    import deja_vu.pipelines.generalize
    import deja_vu.pipelines.personalize
    import deja_vu.pipelines.reconstruct  # noqa: F401  (what forked processes need, loaded once)

    stages = Workshop(options.folder.absolute() / "workshop", PHOTO).stages()
    bad, began = Counter[str](), time.monotonic()
    with (options.folder / "trials.jsonl").open("a") as log:
        for name in options.stages or stages:
            killer = Killer(stages[name], options.folder.absolute() / name.replace(" ", "_"), options.seed)
            for number, moment in enumerate(killer.moments(options.count)):
                trial = killer.trial(moment, replacing=number % 4 >= 2)
                bad[name] += bool(trial.faults)
                log.write(
                    json.dumps(
                        {
                            "stage": name,
                            "change": moment.change,
                            "delay": round(moment.delay, 4),
                            "replacing": trial.replacing,
                            "at": trial.at,
                            "faults": trial.faults,
                        }
                    )
                    + "\n"
                )
                log.flush()
                if trial.faults:
                    print(f"{name}: {trial}", flush=True)
            print(f"{name:>18}  {options.count - bad[name]:3d} of {options.count} survived  ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if bad.total() else 0


if __name__ == "__main__":
    sys.exit(main())

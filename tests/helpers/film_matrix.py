"""Forty made-up films through other lenses, in other frames, at other rates: how many are tracked, refused, or wrong without a word.

python -m tests.helpers.film_matrix build/films [docs/results/tracking.md]

Tracks as `deja-vu track --resolution 256` does, with a quick torso. A film counts as tracked where its face lies within 2 pixels of a crop
of 512: the mean over frames of the distance between the fitted face's vertices and the true ones, after each vertex's mean error is taken
out, which is the detector's own and stays the same in all frames. Beyond 5 pixels, a film that was not refused is wrong without a word.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from deja_vu.core.errors import DejaVuError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.tracking.config import PhotometricConfig, TorsoConfig, TrackConfig
from deja_vu.tracking.tracker import track_video
from tests.helpers.lenses import Film, Setting, film

TRACKED = 2.0
"""Error up to which a film is tracked, pixels of a crop of 512."""
WRONG = 5.0
"""Error from which it is wrong, the same."""
RECIPE = TrackConfig(resolution=256, torso=TorsoConfig(color=PhotometricConfig(color=0.04, robust=3.0, rounds=0)))
ROOM = (0, 124)
"""Walls above and below that make a square picture one of 9:16."""


def settings() -> Iterator[tuple[str, Setting]]:
    """Names and settings of the forty films; each has another mixture of person, lens, frame and rate."""
    for number, focal in enumerate((0.5, 0.7, 0.86, 1.2, 1.62, 2.2, 3.0, 4.0)):
        yield f"focal length {focal:g}, square", Setting(focal=focal, seed=2 + number % 2)
        yield f"focal length {focal:g}, 9:16", Setting(focal=focal, room=ROOM, seed=3 - number % 2)
    for bars in ((0, 40), (0, 184), (100, 0), (160, 0), (60, 60)):
        yield f"bars {bars[0]} and {bars[1]} px", Setting(focal=518 / (320 + 2 * max(bars)), bars=bars)
    for zoom in (0.35, 0.5, 0.75, 1.2):
        yield f"face {zoom:g} times as large in 1280 x 720", Setting(focal=518 / 1280, room=(480, 200), zoom=zoom)
    for turn in (1, 2, 3):
        yield f"turned by {90 * turn} degrees", Setting(turn=turn)
        yield f"turned by {90 * turn} degrees, wide, 9:16", Setting(focal=0.86, room=ROOM, turn=turn, seed=3)
    for fps in (5.0, 8.0, 24.0, 30.0, 50.0):
        yield f"{fps:g} frames a second", Setting(fps=fps)
    yield "bars and a wide lens", Setting(focal=0.6, bars=(0, 184))
    yield "bars and a turn", Setting(focal=518 / 640, bars=(160, 0), turn=1)
    yield "small and turned", Setting(focal=518 / 1280, room=(480, 200), zoom=0.6, turn=2)
    yield "tele and slow", Setting(focal=3.5, fps=6.0, seed=3)


@dataclass(frozen=True)
class Outcome:
    """What became of a film."""

    name: str
    setting: Setting
    said: str
    """Why it was refused; empty where it was tracked."""
    shift: float = 0.0
    """Motion's error of the face, pixels of a crop of 512."""
    landmarks: float = 0.0
    """Median landmark error, the same."""
    turn: float = 0.0
    """Error of the head's turn, degrees."""
    left_out: int = 0
    """Frames."""

    @property
    def verdict(self) -> str:
        return "refused" if self.said else "tracked" if self.shift < TRACKED else "roughly tracked" if self.shift < WRONG else "wrong"


def try_film(name: str, setting: Setting, folder: Path) -> Outcome:
    """Make a film, track it, and compare it with the truth."""
    folder.mkdir(parents=True)
    made = film(folder / "film.mp4", setting)
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            sequence = track_video(made.path, folder / "track", RECIPE)
    except DejaVuError as error:
        return Outcome(name, setting, str(error).replace(str(made.path), "film"))
    found = float(quiet.getvalue().split("median error ")[1].split(" ")[0]) * 512 / 256
    shift, turn = compare(made, sequence)
    return Outcome(name, setting, "", shift, found, turn, sequence.info.source_frames - len(sequence))


def compare(made: Film, sequence: TrackedSequence) -> tuple[float, float]:
    """Error of the face's motion over the image, pixels of a crop of 512, and of the head's turn, degrees."""
    head, truth, params = load_head("anny"), made.params[sequence.index], sequence.params
    x0, y0, x1, _ = sequence.info.crop
    window = made.camera.crop(x0, y0, x1 - x0, x1 - x0).resize(512, 512)
    face = head.topology.faces[head.topology.regions["face"]].unique()
    shift = sequence.camera.resize(512, 512).project(head(params)[:, face])[0] - window.project(head(truth)[:, face])[0]
    relative = params.world_from_head[:, :3, :3] @ truth.world_from_head[:, :3, :3].mT
    cosine = (relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    motion = (shift - shift.mean(0)).norm(dim=-1).mean(1).mean()
    return float(motion), float(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).mean())


def table(outcomes: list[Outcome]) -> str:
    """Markdown."""
    count = {
        verdict: sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("tracked", "roughly tracked", "refused", "wrong")
    }
    lines = [
        f"{count['tracked']} of {len(outcomes)} films are tracked within {TRACKED:g} px, {count['roughly tracked']} within {WRONG:g} px, "
        f"{count['refused']} refused, {count['wrong']} wrong without a word.",
        "",
        "| film | outcome | motion, px of 512 | landmarks, px | turn, degrees | frames left out |",
        "|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        numbers = "| | | " if one.said else f"{one.shift:.2f} | {one.landmarks:.2f} | {one.turn:.1f} | {one.left_out or ''} "
        lines.append(f"| {one.name} | {'refused: ' + one.said.splitlines()[0] if one.said else one.verdict} | {numbers}|")
    return "\n".join(lines) + "\n"


def main(folder: Path, page: Path | None) -> None:
    """Try all films, and write the table between the page's marks."""
    outcomes = []
    for number, (name, setting) in enumerate(settings()):
        outcomes.append(try_film(name, setting, folder / f"{number:02d}"))
        print(outcomes[-1], flush=True)
    print(table(outcomes))
    if page is not None:
        before, _, after = page.read_text().partition("<!-- films -->\n")
        page.write_text(f"{before}<!-- films -->\n{table(outcomes)}<!-- end -->{after.partition('<!-- end -->')[2]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

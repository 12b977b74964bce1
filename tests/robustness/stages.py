"""Every command that writes, at sizes at which it takes seconds: what it reads, what it writes, how it is gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deja_vu.datasets.synthetic import SyntheticSubject
from deja_vu.io.video import write_video
from tests.robustness.children import run

RECIPE = """
format: 3
track: {resolution: 128, photometric: {rounds: 1, steps: 1, video_frames: 0, texture_frames: 6, hull_frames: 4}}
gaussian:
  avatar: {uv_size: 64, blend_size: 64, blendmaps: 2}
  lift: {frames: 4, prior_frames: 1}
  phases:
    - {steps: 8, resolution: 64, learning_rate: 0.02, perceptual_every: 0}
    - {steps: 12, resolution: 96, learning_rate: 0.01, perceptual_every: 4, blendmaps: true}
  log_every: 1
  picture_every: 5
nelf:
  avatar: {points: 6, point_octaves: 3, bank: 8, width: 16, depth: 2, upscale_width: 8, upscale_depth: 1, latent: 4, warp_depth: 1}
  phases: [{steps: 12, resolution: 64, learning_rate: 0.003, perceptual_every: 0}]
  log_every: 1
  picture_every: 5
nerf:
  avatar: {plane_size: 32, plane_channels: 4, point_features: 4, nearest: 3, code: 4, width: 16, view_octaves: 1, features: 4, coarse: 4,
    fine: 4, upscale_width: 8, upscale_depth: 1}
  phases: [{steps: 10, resolution: 64, learning_rate: 0.01, enlarge: false, perceptual_every: 0}]
  log_every: 1
  picture_every: 4
"""
PRIOR_RECIPE = """
prepare: {made_up: 3, made_up_frames: 2, per_shard: 1, photo: {resolution: 96}}
prior: {uv_size: 64, network: {widths: [8, 16], code: 8, code_widths: [8, 8]}, picture: 32}
phases: [{steps: 6, resolution: 64, learning_rate: 2.0e-3, perceptual_every: 0}]
batch: 2
photo_counts: [0.5, 0.5]
log_every: 1
picture_every: 3
grid_people: 1
"""
SCRIPT = "{fps: 10, keyframes: [{at: 0.0, face: neutral}, {at: 0.8, weights: {jawOpen: 1.0}}]}\n"


@dataclass(frozen=True)
class Stage:
    """A command whose results are looked at."""

    name: str
    words: tuple[str, ...]
    """Command line; OUT stands for where it writes."""
    out: str
    """File or folder that it writes, in a folder of the trial."""
    goes_on: tuple[str, ...] = ()
    """Flags with which a killed one is gone on with; without any, the same command again."""
    replaces: bool = True
    """Whether it takes --overwrite."""
    begin: str = ""
    """A finished run that lies in place of OUT from the start."""

    def command(self, folder: Path, *flags: str) -> list[str]:
        """The command line in a trial's folder."""
        return [word.replace("OUT", str(folder / self.out)) for word in self.words] + list(flags)


class Workshop:
    """A folder with everything that commands read."""

    def __init__(self, folder: Path, photo: Path) -> None:
        """Make a video and a recipe; the rest is made when it is asked for.

        Args:
            folder: to fill.
            photo: somebody's portrait.
        """
        self.folder, self.photo = folder, photo
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("recipe.yaml", RECIPE), ("prior.yaml", PRIOR_RECIPE), ("script.yaml", SCRIPT)):
            (folder / name).write_text(text)
        for name, seed in (("film.mp4", 2), ("other.mp4", 5)):
            if not (folder / name).is_file():
                subject = SyntheticSubject(14, 192, seed, 12.5, close=True)
                write_video(folder / name, subject.frames(), 12.5)

    def made(self, name: str, words: Sequence[str]) -> Path:
        """A result that others begin from, made once."""
        place = self.folder / name
        if not place.exists():
            done = run([word.replace("OUT", str(place)) for word in words], self.folder / f"{name}.log")
            if done.code:
                raise RuntimeError(f"{' '.join(words)} ended with {done.code}: {done.said[-2000:]}")
        return place

    def stages(self) -> dict[str, Stage]:
        """All of them, by name."""
        film, recipe, prior, script = (str(self.folder / name) for name in ("film.mp4", "recipe.yaml", "prior.yaml", "script.yaml"))
        tracked = str(self.made("tracked", ["track", film, "--out", "OUT", "--config", recipe]))
        avatar = str(self.made("run", ["personalize", tracked, "--out", "OUT", "--config", recipe]))
        shards = str(self.made("shards", ["prepare", tracked, "--out", "OUT", "--config", prior, "--made-up", "2"]))
        resume = ("--resume",)
        found = [
            Stage("sample", ("sample", "OUT", "--frames", "4"), "sample.mp4"),
            Stage("track", ("track", film, "--out", "OUT", "--config", recipe), "tracked"),
            Stage("personalize", ("personalize", film, "--out", "OUT", "--config", recipe), "run", resume),
            Stage("personalize nelf", ("personalize", tracked, "--out", "OUT", "--config", recipe, "--path", "nelf"), "run", resume),
            Stage("personalize nerf", ("personalize", tracked, "--out", "OUT", "--config", recipe, "--path", "nerf"), "run", resume),
            Stage("evaluate", ("evaluate", avatar, "--frames", "2", "--save-frames", "OUT"), "frames"),
            Stage("report", ("report", "OUT"), "run", replaces=False, begin=avatar),
            Stage("report file", ("report", avatar, "--out", "OUT"), "page.html"),
            Stage("export page", ("export", avatar, "--format", "web", "--out", "OUT"), "page"),
            Stage("export file", ("export", avatar, "--format", "ply", "--out", "OUT"), "avatar.ply"),
            Stage("drive video", ("drive", avatar, "--motion", script, "--out", "OUT"), "driven.mp4"),
            Stage("drive pictures", ("drive", avatar, "--motion", script, "--out", "OUT"), "driven"),
            Stage("drive by film", ("drive", avatar, "--motion", str(self.folder / "other.mp4"), "--out", "OUT"), "driven.webm"),
            Stage("prepare", ("prepare", tracked, "--out", "OUT", "--config", prior), "shards", resume),
            Stage("generalize", ("generalize", "--data", shards, "--out", "OUT", "--config", prior), "prior", resume),
            Stage("reconstruct", ("reconstruct", str(self.photo), "--out", "OUT", "--turntable-frames", "4"), "photo"),
        ]
        return {stage.name: stage for stage in found}

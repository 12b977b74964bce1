"""Train an avatar on a tracked folder, from Python.

    deja-vu track me.mp4 --out tracked/me
    python examples/05_train_on_tracked_folder.py tracked/me runs/short

Any tracker can write such a folder; deja_vu/core/sequence.py says what is in it. A small avatar learns for some seconds here, to show the
parts; `deja-vu personalize tracked/me --out runs/me` does it well. Writes avatar.safetensors and curves into runs/short.
"""

import sys
from pathlib import Path

import torch

from deja_vu import TrackedSequence
from deja_vu.avatars import GaussianConfig, save_avatar
from deja_vu.core.image import over
from deja_vu.io.frames import FrameSource
from deja_vu.pipelines.person import subject_of
from deja_vu.training.gaussian import GaussianPhase, GaussianTrainConfig, train_gaussian
from deja_vu.training.gaussian_init import init_avatar


def main(tracked: str, out: str) -> None:
    video = TrackedSequence.load(Path(tracked))
    phases = (GaussianPhase(steps=40, resolution=96, learning_rate=0.02, blendmaps=True, perceptual_every=0),)
    config = GaussianTrainConfig(avatar=GaussianConfig(uv_size=96, blend_size=64, blendmaps=4), phases=phases)
    avatar = init_avatar(video.train_part(), config)
    train_gaussian(avatar, video.train_part(), config, Path(out), device=torch.device("cpu"), resume=False)
    save_avatar(avatar, Path(out) / "avatar.safetensors", {}, subject_of(video, avatar))
    batch = FrameSource(video.test_part(), 96).batch(torch.tensor([0]))  # a frame that training never saw
    with torch.no_grad():
        error = avatar.render(batch.params, batch.camera, torch.ones(3)).rgb - over(batch.image, batch.head, torch.ones(3))
    print(f"written: {out}/avatar.safetensors (mean error {float((error * batch.loss_mask).abs().mean()):.3f} of 1)")


if __name__ == "__main__":
    main(*sys.argv[1:3])

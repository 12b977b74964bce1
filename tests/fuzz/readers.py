"""Every reader of files, with small whole files for it."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pillow_heif
import torch
from PIL import Image

from deja_vu.avatars import GaussianAvatar, GaussianConfig, save_avatar
from deja_vu.avatars.io import load_avatar, read_subject
from deja_vu.avatars.nelf import NelfAvatar, NelfConfig
from deja_vu.avatars.nerf import NerfAvatar, NerfConfig
from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.avatars.prior.network import build_prior, load_prior, save_prior
from deja_vu.core.camera import Camera
from deja_vu.core.config import config_text, load_config
from deja_vu.core.head import HeadParams
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import Frame, TrackedSequence, TrackInfo
from deja_vu.datasets.recording import read_image, read_json, read_npz
from deja_vu.datasets.shards import Sample, ShardInfo, ShardSet, begin_shards, write_shard
from deja_vu.heads.flame import load as load_flame
from deja_vu.heads.restricted_pickle import read_pickle
from deja_vu.heads.toy import load as load_toy
from deja_vu.io.images import read_picture
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence
from deja_vu.io.video import VideoWriter, probe, read_frames, write_video
from deja_vu.motion.arkit_csv import ArkitCsvMotion
from deja_vu.motion.script import ScriptMotion
from deja_vu.nets.config import UVNetConfig
from deja_vu.pipelines.own_files import kind_of, read_record
from deja_vu.pipelines.recipes import Recipe
from deja_vu.report.run_report import ReportedRun, run_page
from deja_vu.training.checkpoint import load_checkpoint, save_checkpoint, spent_seconds
from tests.fuzz.worker import Reader
from tests.helpers.films import Color, write_film
from tests.helpers.flame import write_flame

SIDE = 32
SCRIPT = """fps: 25
keyframes:
  - {at: 0, face: neutral}
  - at: 1.5
    face: smile
    weights: {jawOpen: 0.4}
    head: {yaw: 10, pitch: -5}
"""
WEIGHT = {"report": 0.2, "prior": 0.1, "video": 0.5, "shards": 0.5, "flame model": 0.1}
"""Shares of the files against other readers': these take longer."""


def _made(name: str, write: Callable[[Path], None]) -> list[Path]:
    """Files of a folder that is made once and kept for all processes."""
    folder = CACHE / name
    if not folder.exists():
        folder.mkdir(parents=True)
        write(folder)
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _seeds(name: str, write: Callable[[Path], None], only: tuple[str, ...] = ()) -> Callable[[Path], list[Path]]:
    def copy(place: Path) -> list[Path]:
        copies = []
        for path in _made(name, write):
            target = place / path.relative_to(CACHE / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            copies.append(target)
        return [path for path in copies if not only or path.name.startswith(only) or path.suffix in only]

    return copy


def _avatar() -> GaussianAvatar:
    head = load_toy()
    return GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blend_size=64, blendmaps=2)).eval()


def _fields(folder: Path) -> None:
    head = load_toy()
    shape = torch.zeros(head.spec.num_shape)
    nerf = NerfConfig(plane_size=8, plane_channels=2, point_features=2, width=8, features=3, coarse=2, fine=2)
    save_avatar(NerfAvatar(head, shape, nerf), folder / "nerf.safetensors", {})
    nelf = NelfConfig(points=2, point_octaves=2, bank=2, width=8, depth=2, upscale_width=4, upscale_depth=1, latent=2, warp_depth=1)
    save_avatar(NelfAvatar(head, shape, nelf), folder / "nelf.safetensors", {})


def _params(frames: int) -> HeadParams:
    params = load_toy().neutral((frames,))
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, 2, 3] = 0.5
    return replace(params, world_from_head=pose)


def _track(folder: Path) -> None:
    for name in ("frames", "masks"):
        (folder / name).mkdir()
    shade = np.full((SIDE, SIDE), 200, np.uint8)
    for number in range(4):
        write_frame(folder, number, np.stack([shade, shade // 2, shade // 4], -1))
        write_masks(folder, number, np.stack([shade] * 4, -1))
    index = torch.arange(4)
    info = TrackInfo("toy", "toy", 25.0, "toy.mp4", "0" * 64, 4, (0, 0, SIDE, SIDE), SIDE, "tail")
    camera = Camera.from_focal(40.0, SIDE, SIDE)
    write_sequence(TrackedSequence(folder, info, _params(4), camera, index, index / 25, index == 3))


def _run(folder: Path) -> None:
    (folder / "track").mkdir()
    _track(folder / "track")
    save_avatar(_avatar(), folder / "avatar.safetensors", {})
    scores = {"psnr": 30.0, "ssim": 0.9, "st_lpips": 0.02, "l1": 0.01, "regions": {}}
    metrics = {"test": scores, "baselines": {"mean_image": scores}, "commit": "x", "seconds": {"track": 1.0, "total": 2.0}, "intervals": {}}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"frames": 4, "frames_held_out": 1, "frames_scored": 1, "gaussians": 5}))
    entries = [{"step": step, "loss": 1 / (step + 1), "color": 0.5} for step in range(6)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "config.yaml").write_text(config_text(Recipe()))
    (folder / "run.json").write_text(json.dumps({"kind": "personalize", "program": "deja-vu", "command": "deja-vu personalize"}))


def _pictures(folder: Path) -> None:
    colors = (np.indices((100, 100)).sum(0)[..., None] * [3, 2, 1] % 256).astype(np.uint8)
    picture = Image.fromarray(colors)
    exif = Image.Exif()
    exif[0x0112], exif[0x9209] = 6, 1
    for suffix, options in {"jpg": {"exif": exif}, "png": {}, "webp": {}, "tiff": {}, "avif": {}, "gif": {}, "bmp": {}}.items():
        picture.save(folder / f"photo.{suffix}", **options)
    pillow_heif.from_pillow(picture).save(folder / "photo.heic", exif=exif.tobytes())


def _video(folder: Path) -> None:
    frames = [np.full((SIDE, SIDE, 3), 20 * number, np.uint8) for number in range(5)]
    write_video(folder / "film.mp4", frames, 25.0)
    with VideoWriter(folder / "film.webm", 25.0, webm=True) as writer:
        for frame in frames:
            writer.write(np.dstack([frame, frame[..., :1]]))
    write_film(folder / "film.mkv", frames, Color("HLG", "HLG", "BT.2020", "BT.2020"), form="yuv420p10le")
    write_film(folder / "film.avi", frames, Color("photos", matrix="BT.601", full=True, tagged=False), "mjpeg", "yuvj420p")


def _shards(folder: Path) -> None:
    begin_shards(folder, ShardInfo("toy", SIDE, ("a.jpg", "b.jpg"), 2))
    plane = torch.full((SIDE, SIDE), 200, dtype=torch.uint8)
    frame = Frame(torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8), plane, plane, plane, plane)
    portraits = [Portrait(name, name, frame, _params(1), Camera.from_focal(40.0, SIDE, SIDE)) for name in "ab"]
    write_shard(folder, 0, [Sample(portrait, "set", "train") for portrait in portraits], {})


def _prior(folder: Path) -> None:
    config = PriorConfig(head="toy", uv_size=64, network=UVNetConfig(widths=(8, 8), code=8, code_widths=(8, 8)))
    save_prior(build_prior(config), folder / "prior.safetensors", {})


def _model() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam([{"params": list(model.parameters()), "name": "all"}])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def _checkpoint(folder: Path) -> None:
    model, optimizer = _model()
    save_checkpoint(folder / "checkpoint.pt", 3, model, optimizer, {"seconds": 1.0}, whose={"video": "x"})


def _capture(folder: Path) -> None:
    from deja_vu.core.arkit import ARKIT_NAMES

    rows = [",".join(["Timecode", "BlendShapeCount", *ARKIT_NAMES, "HeadYaw", "HeadPitch", "HeadRoll"])]
    rows += [",".join([f"00:00:0{n // 4}:{n % 4 * 15:02d}.000", "61", *["0.1"] * len(ARKIT_NAMES), "0.1", "0.2", "0.0"]) for n in range(8)]
    (folder / "capture.csv").write_text("\n".join(rows) + "\n")


def _text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def _archive(folder: Path) -> None:
    np.savez(folder / "frame.npz", expr=np.zeros((1, 10), np.float32), pose=np.ones(3))


def _pickle(folder: Path) -> None:
    (folder / "flame.pkl").write_bytes(pickle.dumps({"v_template": np.zeros((5, 3)), "name": "x", "kintree": np.arange(4)}, protocol=2))


def _read_flame(path: Path) -> None:
    load_flame("flame2020", path.parent / "generic_model.npz", 10, 5)


def _read_track(path: Path) -> None:
    folder = path.parent if path.parent.name not in ("frames", "masks", "track") else path.parent.parent
    sequence = TrackedSequence.load(folder)
    for place in range(min(len(sequence), 4)):
        sequence.frame(place)


def _read_report(path: Path) -> None:
    folder = next(parent for parent in path.parents if (parent / "avatar.safetensors").exists())
    run_page(ReportedRun(folder, "me", load_avatar(folder / "avatar.safetensors"), TrackedSequence.load(folder / "track")))


def _read_avatar(path: Path) -> None:
    load_avatar(path)
    read_subject(path)


def _read_checkpoint(path: Path) -> None:
    model, optimizer = _model()
    load_checkpoint(path, model, optimizer, whose={"video": "x"}, expected={"seconds": float})
    spent_seconds(path)


def _read_video(path: Path) -> None:
    probe(path)
    for number, _ in enumerate(read_frames(path)):
        if number == 50:
            return


def _read_record(path: Path) -> None:
    read_record(path.parent)
    kind_of(path.parent)


def _read_shards(path: Path) -> None:
    shards = ShardSet([path.parent])
    for number in range(len(shards)):
        shards.read(number)


CACHE = Path(tempfile.mkdtemp(prefix="fuzz-seeds-"))
READERS: dict[str, Reader] = {
    "config": Reader(_seeds("config", _text("config.yaml", config_text(Recipe()))), lambda path: load_config(Recipe, path)),
    "script": Reader(_seeds("script", _text("act.yaml", SCRIPT)), lambda path: ScriptMotion(path, load_toy())),
    "csv": Reader(_seeds("csv", _capture), lambda path: ArkitCsvMotion(path, load_toy())),
    "avatar": Reader(_seeds("avatar", lambda folder: save_avatar(_avatar(), folder / "avatar.safetensors", {})), _read_avatar),
    "fields": Reader(_seeds("fields", _fields), _read_avatar),
    "prior": Reader(_seeds("prior", _prior), load_prior),
    "checkpoint": Reader(_seeds("checkpoint", _checkpoint), _read_checkpoint),
    "track": Reader(_seeds("track", _track, ("track.json", "params")), _read_track),
    "masks": Reader(_seeds("track", _track, (".png", ".jpg")), _read_track),
    "image": Reader(_seeds("image", _pictures), read_picture),
    "video": Reader(_seeds("video", _video), _read_video),
    "report": Reader(_seeds("run", _run, ("metrics",)), _read_report),
    "record": Reader(_seeds("run", _run, ("run.json",)), _read_record),
    "shards": Reader(_seeds("shards", _shards), _read_shards),
    "flame": Reader(_seeds("flame", _pickle), read_pickle),
    "flame model": Reader(_seeds("flame model", lambda folder: write_flame(folder) and None), _read_flame),
    "archive": Reader(_seeds("archive", _archive), read_npz),
    "recording": Reader(
        _seeds("recording", _text("t.json", json.dumps({"frames": [{"a": 1.5}], "w": 3}))), lambda path: read_json(path, "a set")
    ),
    "plane": Reader(_seeds("image", _pictures, (".png", ".jpg")), read_image),
}

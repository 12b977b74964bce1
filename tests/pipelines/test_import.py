"""Made-up data sets of the layouts that others publish become tracked folders, and are checked against FLAME's own recipe in numpy."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from deja_vu.core.sequence import TrackedSequence
from deja_vu.datasets import DATASETS
from deja_vu.datasets.insta import HARMLESS, rotation_vectors
from deja_vu.heads import load_head
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.configs import PrepareConfig
from deja_vu.pipelines.import_data import PHOTO_SETS
from deja_vu.pipelines.prepare import find_sources, identify, spread_photos
from tests.helpers.flame import posed_vertices

SIDE = 96
FOCAL = 170.0
FRAMES = 6
FLIP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Truth:
    """One person, as the writers of every layout are given it; where a layout has no place for something, that is zero."""

    shape: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    """Root, neck, jaw and eyes [T 5 3]."""
    translation: np.ndarray
    camera: np.ndarray
    """OpenCV camera from model space [T 4 4]."""
    vertices: np.ndarray
    """In camera space [T V 3]."""
    image: np.ndarray
    masks: list[np.ndarray]


def tell(flame: Path, *, root: bool, neck: bool, moving: bool, translated: bool, many: bool) -> Truth:
    """Make up a truth.

    Args:
        flame: model.
        root: the root turns.
        neck: the neck turns.
        moving: the camera moves.
        translated: the model is moved.
        many: more than a hundred and fifty coefficients are in use.
    """
    rng = np.random.default_rng(3)
    size = (300, 100) if many else (100, 50)
    shape, expression = 0.5 * rng.normal(size=size[0]), 0.5 * rng.normal(size=(FRAMES, size[1]))
    pose = 0.1 * rng.normal(size=(FRAMES, 5, 3))
    pose[:, 0] *= root
    pose[:, 1] *= neck
    translation = 0.02 * rng.normal(size=(FRAMES, 3)) * translated
    camera = np.tile(np.eye(4), (FRAMES, 1, 1))
    camera[:, :3, :3], camera[:, :3, 3] = FLIP, [0, 0, 0.6]
    if moving:
        camera[:, :3, :3] = Rotation.from_rotvec(0.15 * rng.normal(size=(FRAMES, 3))).as_matrix() @ FLIP
        camera[:, :3, 3] += 0.01 * rng.normal(size=(FRAMES, 3))
    vertices, masks = [], []
    for frame in range(FRAMES):
        points = posed_vertices(flame, shape, expression[frame], pose[frame]) + translation[frame]
        vertices.append(points @ camera[frame, :3, :3].T + camera[frame, :3, 3])
        pixels = FOCAL * vertices[-1][:, :2] / vertices[-1][:, 2:] + SIDE / 2
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(pixels.astype(np.int32)), 255)
        masks.append(mask)
    image = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    return Truth(shape, expression, pose, translation, camera, np.stack(vertices), image, masks)


def write_insta(folder: Path, truth: Truth) -> None:
    for name in ("checkpoint", "images", "matted"):
        (folder / name).mkdir(parents=True)
    for frame in range(FRAMES):
        rows = Rotation.from_rotvec(truth.pose[frame]).as_matrix()[:, :2].reshape(5, 6).astype(np.float32)
        flame = {"exp": truth.expression[frame : frame + 1].astype(np.float32), "shape": truth.shape[None].astype(np.float32)}
        flame |= {"jaw": rows[2:3], "eyes": rows[3:].reshape(1, 12), "eyelids": np.zeros((1, 2), np.float32)}
        view = {"R": truth.camera[frame, None, :3, :3].astype(np.float32), "t": truth.camera[frame, None, :3, 3].astype(np.float32)}
        view["K"] = np.array([[[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]]], np.float32)
        content = {"flame": flame, "opencv": view, "img_size": np.array([SIDE, SIDE]), "frame_id": f"{frame:05d}", "global_step": 7}
        torch.save(content, folder / "checkpoint" / f"{frame + 1:05d}.frame")
        cv2.imwrite(str(folder / "images" / f"{frame + 1:05d}.png"), truth.image)
        cv2.imwrite(str(folder / "matted" / f"{frame + 1:05d}.png"), np.dstack([truth.image, truth.masks[frame]]))


def write_imavatar(folder: Path, truth: Truth) -> None:
    for name in ("image", "mask", "semantic"):
        (folder / name).mkdir(parents=True)
    frames = []
    for frame in range(FRAMES):
        world = np.concatenate([np.eye(3), [[0], [0], [4 * -truth.camera[frame, 2, 3]]]], 1)
        facts = {"file_path": f"./image/{frame + 1}", "world_mat": world.tolist(), "expression": truth.expression[frame].tolist()}
        frames.append(facts | {"pose": truth.pose[frame].ravel().tolist(), "bbox": [-1, -1, 1, 1]})
        cv2.imwrite(str(folder / "image" / f"{frame + 1}.png"), truth.image)
        cv2.imwrite(str(folder / "mask" / f"{frame + 1}.png"), truth.masks[frame])
        classes = np.where(truth.masks[frame] > 0, 1, 0).astype(np.uint8)
        classes[-20:][classes[-20:] > 0] = 14  # neck
        cv2.imwrite(str(folder / "semantic" / f"{frame + 1}.png"), classes)
    lens = [-FOCAL / SIDE, FOCAL / SIDE, 0.5, 0.5]
    (folder / "flame_params.json").write_text(json.dumps({"frames": frames, "shape_params": truth.shape.tolist(), "intrinsics": lens}))


def write_vhap(folder: Path, truth: Truth, cameras: int = 1) -> None:
    for name in ("images", "fg_masks", "flame_param"):
        (folder / name).mkdir(parents=True)
    frames = []
    for frame in range(FRAMES):
        pose = np.linalg.inv(truth.camera[frame])
        pose[:3, :3] = pose[:3, :3] @ FLIP
        for camera in range(cameras):
            facts = {"timestep_index": frame, "camera_index": camera, "transform_matrix": pose.tolist(), "fl_x": FOCAL, "fl_y": FOCAL}
            facts |= {"cx": SIDE / 2, "cy": SIDE / 2, "w": SIDE, "h": SIDE, "flame_param_path": f"flame_param/{frame:05d}.npz"}
            facts |= {
                name: f"{place}/{frame:05d}_{camera:02d}.png" for name, place in (("file_path", "images"), ("fg_mask_path", "fg_masks"))
            }
            frames.append(facts)
            cv2.imwrite(str(folder / facts["file_path"]), truth.image)
            cv2.imwrite(str(folder / facts["fg_mask_path"]), truth.masks[frame])
        np.savez(
            folder / "flame_param" / f"{frame:05d}.npz",
            translation=truth.translation[None, frame],
            rotation=truth.pose[None, frame, 0],
            neck_pose=truth.pose[None, frame, 1],
            jaw_pose=truth.pose[None, frame, 2],
            eyes_pose=truth.pose[None, frame, 3:].reshape(1, 6),
            shape=truth.shape,
            expr=truth.expression[None, frame],
            static_offset=np.zeros((1, 10, 3)),
        )
    lists = {"train": frames[: 4 * cameras], "test": frames[4 * cameras :]}
    for name, listed in lists.items():
        (folder / f"transforms_{name}.json").write_text(json.dumps({"frames": listed}))


def write_head_tracker(folder: Path, truth: Truth) -> None:
    folder.mkdir(parents=True)
    for frame in range(FRAMES):
        pose = np.linalg.inv(truth.camera[frame])
        roll, yaw, pitch = Rotation.from_matrix(pose[:3, :3] @ FLIP).as_euler("ZYX")
        lens = np.array([[[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, SIDE / 256]]]) * 256 / SIDE
        np.savez_compressed(
            folder / f"{frame}.npz",
            shape=truth.shape[None].astype(np.float32),
            exp=truth.expression[None, frame].astype(np.float32),
            head_pose=np.zeros((1, 3), np.float32),
            jaw_pose=truth.pose[None, frame, 2].astype(np.float32),
            eye_pose=truth.pose[None, frame, 3:].reshape(1, 6).astype(np.float32),
            cam=np.concatenate([[yaw, pitch, roll], pose[:3, 3]])[None].astype(np.float32),
            K=lens.astype(np.float32),
            img=truth.image[None, ..., ::-1],
            parsing=np.where(truth.masks[frame] > 0, 1, 0)[None],
        )


WRITERS: dict[str, tuple[Callable[[Path, Truth], None], dict[str, bool]]] = {
    "insta": (write_insta, {"root": False, "neck": False, "moving": True, "translated": False, "many": True}),
    "imavatar": (write_imavatar, {"root": True, "neck": True, "moving": False, "translated": False, "many": False}),
    "vhap": (write_vhap, {"root": True, "neck": True, "moving": True, "translated": True, "many": True}),
    "flame-head-tracker": (write_head_tracker, {"root": False, "neck": False, "moving": True, "translated": False, "many": True}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_heads_stand_where_flames_own_recipe_puts_them(kind: str, flame: Path, tmp_path: Path) -> None:
    write, freedom = WRITERS[kind]
    truth, source, out = tell(flame, **freedom), tmp_path / "clip", tmp_path / "out"
    write(source, truth)
    main(["import", kind, str(source), "--out", str(out)])
    sequence = TrackedSequence.load(out)
    assert sequence.info.head_name == ("flame2023" if kind == "vhap" else "flame2020") + ("_full" if freedom["many"] else "")
    with torch.no_grad():
        ours = load_head(sequence.info.head_name)(sequence.params).numpy()
    np.testing.assert_allclose(ours, truth.vertices, rtol=0, atol=2e-6)  # float32 at half a meter
    np.testing.assert_allclose(sequence.camera.intrinsics, [[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]], rtol=1e-5)
    assert sequence.test.tolist() == [False] * 4 + [True] * 2 if kind == "vhap" else [False] * 5 + [True]
    assert {(out / name).stat().st_mode & 0o777 for name in ("frames", "masks")} == {0o700}, "filmed people are closed to others"
    frame = sequence.frame(2)
    assert np.abs(frame.foreground.numpy().astype(int) - truth.masks[2]).max() == 0
    assert (frame.head <= frame.foreground).all()
    assert frame.head.float().sum() > 0.3 * frame.foreground.float().sum()
    assert frame.eyes_mouth.max() > 200
    picture = frame.image.numpy()[..., ::-1].astype(int)  # JPEG keeps the mean of noise, and the order of its channels
    assert np.abs(picture.mean((0, 1)) - truth.image.mean((0, 1))).max() < 3


def test_every_kind_of_recording_is_tried_here() -> None:
    assert WRITERS.keys() == DATASETS.keys()


def test_parsing_says_where_the_head_is(flame: Path, tmp_path: Path) -> None:
    write, freedom = WRITERS["imavatar"]
    write(tmp_path / "clip", tell(flame, **freedom))
    main(["import", "imavatar", str(tmp_path / "clip"), "--out", str(tmp_path / "out")])
    frame = TrackedSequence.load(tmp_path / "out").frame(0)
    assert frame.foreground[-20:].max() == 255
    assert frame.head[-20:].max() == 0


def test_rows_of_matrices_are_rotations() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    rows = Rotation.from_rotvec(vectors).as_matrix()[:, :2].reshape(5, 6)
    np.testing.assert_allclose(rotation_vectors(rows * 1.5), vectors, atol=1e-6)


def test_one_of_several_cameras_is_chosen(flame: Path, tmp_path: Path, capsys) -> None:
    source = tmp_path / "clip"
    write_vhap(source, tell(flame, **WRITERS["vhap"][1]), cameras=2)
    assert "the cameras 0, 1" in refused(capsys, "vhap", source, tmp_path / "out")
    main(["import", "vhap", str(source), "--out", str(tmp_path / "out"), "--camera", "1"])
    assert len(TrackedSequence.load(tmp_path / "out")) == FRAMES


def refused(capsys, kind: str, source: Path, out: Path, *more: str) -> str:
    """The one line with which an import is refused, after which nothing is there."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["import", kind, str(source), "--out", str(out), *more])
    message = capsys.readouterr().err.splitlines()
    message = [line for line in message if line.startswith("deja-vu: ")]
    assert ended.value.code == 2
    assert len(message) == 1
    assert len(message[0]) < 500 + len(str(source))
    assert not out.exists()
    return message[0]


class Harm:
    """What a pickle of somebody else's could do."""

    def __reduce__(self):
        return os.mkdir, ("harm_was_done",)


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_npz(path: Path, change: Callable[[dict], object]) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)


def edit_frame(path: Path, change: Callable[[dict], object]) -> None:
    with torch.serialization.safe_globals(HARMLESS):
        content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def turn_cameras(content: dict) -> None:
    for frame in content["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])).tolist()


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "insta without masks": ("insta", lambda folder: [path.unlink() for path in (folder / "matted").glob("*.png")], "no mask"),
    "insta without a picture": (
        "insta",
        lambda folder: [(folder / place / "00003.png").unlink() for place in ("images", "matted")],
        "00003",
    ),
    "insta whose frame holds code": (
        "insta",
        lambda folder: (folder / "checkpoint" / "00002.frame").write_bytes(pickle.dumps(Harm())),
        "damaged, or names code",
    ),
    "insta for another head": (
        "insta",
        lambda folder: edit_frame(folder / "checkpoint" / "00002.frame", lambda c: c["flame"].update(shape=np.zeros((1, 400)))),
        "400|shape",
    ),
    "insta with no such thing": ("insta", lambda folder: [path.unlink() for path in (folder / "checkpoint").iterdir()], "checkpoint"),
    "imavatar without masks": ("imavatar", lambda folder: (folder / "mask" / "4.png").unlink(), "mask"),
    "imavatar with other axes": (
        "imavatar",
        lambda folder: edit_json(folder / "flame_params.json", lambda c: c.update(intrinsics=[1.5, 1.5, 0.5, 0.5])),
        "other axes",
    ),
    "imavatar in other units": (
        "imavatar",
        lambda folder: edit_json(folder / "flame_params.json", lambda c: [f["world_mat"][2].__setitem__(3, -40.0) for f in c["frames"]]),
        "other axes or units",
    ),
    "imavatar without parameters": (
        "imavatar",
        lambda folder: edit_json(folder / "flame_params.json", lambda c: c["frames"][2].pop("pose")),
        "`pose`",
    ),
    "imavatar of another head": (
        "imavatar",
        lambda folder: edit_json(folder / "flame_params.json", lambda c: c.update(shape_params=[0.1] * 400)),
        "400 coefficients",
    ),
    "vhap with other axes": (
        "vhap",
        lambda folder: [edit_json(folder / f"transforms_{name}.json", turn_cameras) for name in ("train", "test")],
        "other axes",
    ),
    "vhap without a frame's parameters": ("vhap", lambda folder: (folder / "flame_param" / "00001.npz").unlink(), "00001"),
    "vhap without masks": ("vhap", lambda folder: [path.unlink() for path in (folder / "fg_masks").iterdir()], "mask"),
    "vhap with a pickled array": (
        "vhap",
        lambda folder: edit_npz(folder / "flame_param" / "00001.npz", lambda a: a.update(expr=np.array([Harm()], dtype=object))),
        "plain arrays",
    ),
    "vhap with a zoom": (
        "vhap",
        lambda folder: edit_json(folder / "transforms_train.json", lambda c: c["frames"][0].update(fl_x=400.0)),
        "changes from frame to frame",
    ),
    "tracker without parsing": ("flame-head-tracker", lambda folder: edit_npz(folder / "2.npz", lambda a: a.pop("parsing")), "parsing"),
    "tracker with numbers that are none": (
        "flame-head-tracker",
        lambda folder: edit_npz(folder / "2.npz", lambda a: a.update(exp=np.full((1, 100), np.nan))),
        "not finite",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_data_is_answered_in_one_line_and_leaves_nothing(what: str, flame: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind, spoil, expected = WRONG[what]
    write, freedom = WRITERS[kind]
    source = tmp_path / "clip"
    write(source, tell(flame, **freedom))
    spoil(source)
    message = refused(capsys, kind, source, tmp_path / "out")
    assert any(word in message for word in expected.split("|")), message
    assert not (tmp_path / "harm_was_done").exists()


def test_without_flame_it_is_said_what_file_is_needed(flame: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    write, freedom = WRITERS["imavatar"]
    write(tmp_path / "clip", tell(flame, **freedom))
    monkeypatch.delenv("DEJA_VU_FLAME2020")
    assert "DEJA_VU_FLAME2020" in refused(capsys, "imavatar", tmp_path / "clip", tmp_path / "out")


def test_a_flag_of_another_kind_is_refused(flame: Path, tmp_path: Path, capsys) -> None:
    write, freedom = WRITERS["imavatar"]
    write(tmp_path / "clip", tell(flame, **freedom))
    assert "Leave it out" in refused(capsys, "imavatar", tmp_path / "clip", tmp_path / "out", "--camera", "1")


def test_people_of_photo_collections_are_kept_apart(tmp_path: Path) -> None:
    names = {
        "ffhq": {f"{number // 1000 * 1000:05d}/{number:05d}.png": f"ffhq/{number:05d}" for number in (12, 999, 1000, 69999)},
        "vfhq": {
            f"Clip+{video}+P{person}+C0+F10-90/{frame:08d}.png": f"vfhq/{video}/{person}"
            for video in ("-0a_b", "xYz")
            for person in (0, 1)
            for frame in range(5)
        },
    }
    for kind, files in names.items():
        for name in files:
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / kind / name).write_bytes(b"")
        config = PrepareConfig(sets=PHOTO_SETS[kind], each=2)
        photos, _ = find_sources([tmp_path / kind])
        found = {source: identify(source, config, photo.below) for source, photo in photos.items()}
        assert {source: identity for source, (identity, _) in found.items()} == files
        if kind == "ffhq":
            assert [split for _, split in found.values()] == ["test", "test", "train", "train"]
        kept = spread_photos(photos, config)
        assert len(kept) == (4 if kind == "ffhq" else 8)
        if kind == "vfhq":
            assert {Path(name).stem for name in kept} == {"00000000", "00000004"}

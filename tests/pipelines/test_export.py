from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deja_vu.avatars import AVATARS, GaussianAvatar, load_avatar, save_avatar
from deja_vu.core.errors import ConfigError, OutputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.motion.actor import PRESETS
from deja_vu.motion.neutral import face_camera
from deja_vu.motion.openings import LIDS, Openings
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.configs import ExportConfig
from deja_vu.pipelines.export import page_controls, pose_at_rest
from deja_vu.pipelines.person import load
from deja_vu.pipelines.requests import check_export, refuse_export
from deja_vu.viewer.stage import Performer, Wish
from tests.helpers.elsewhere import elsewhere
from tests.pipelines.conftest import unlisted


@pytest.fixture
def run(tracked: TrackedSequence, painted: GaussianAvatar, tmp_path: Path) -> Path:
    """A finished run of the painted head."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_avatar(painted, folder / "avatar.safetensors", {})
    (folder / "run.json").write_text(json.dumps({"tracked": str(tracked.folder)}))
    return folder


def export(run: Path, out: Path, *arguments: str) -> None:
    main(["export", str(run), "--out", str(out), *arguments])


SCRIPT = """
fps: 10
keyframes:
  - {at: 0.0, face: neutral}
  - {at: 0.4, weights: {jawOpen: 0.8}}
"""
FILES = {"ply": "a.ply", "spz": "a.spz", "gltf": "a.glb", "npz": "a.npz"}


@pytest.mark.parametrize("format", FILES)
def test_every_format_is_written_and_not_overwritten_unasked(format, run, tmp_path, capsys):
    out = tmp_path / FILES[format]
    export(run, out, "--format", format)
    first = out.read_bytes()
    assert len(first) > 10_000
    said = capsys.readouterr().out
    assert f"{out}: " in said
    assert ("180 degrees about y" in said) == (format == "ply")
    with pytest.raises(SystemExit, match="2"):
        export(run, out, "--format", format)
    assert "exists already. Add --overwrite" in capsys.readouterr().err
    export(run, out, "--format", format, "--overwrite")
    assert format == "npz" or out.read_bytes() == first  # a zip carries the time
    assert not list(tmp_path.glob("*.part"))


def test_a_motion_becomes_a_file_a_frame(run, tracked, film, tmp_path):
    out = tmp_path / "frames"
    export(run, out, "--format", "ply", "--motion", str(film(tmp_path / "longer", frames=len(tracked) + 3).folder))
    export(run, out, "--format", "ply", "--motion", str(tracked.folder), "--overwrite")
    assert unlisted(out) == set()
    names = sorted(path.name for path in out.iterdir() if path.name != "run.json")
    assert names == [f"frame_{k:05d}.ply" for k in range(len(tracked))]
    contents = {path.read_bytes() for path in out.glob("frame_*")}
    assert len(contents) == len(tracked)


def test_one_frame_of_a_motion_is_that_file_of_the_sequence(run, tracked, tmp_path):
    export(run, tmp_path / "frames", "--format", "spz", "--motion", str(tracked.folder))
    export(run, tmp_path / "one.spz", "--format", "spz", "--motion", str(tracked.folder), "--frame", "7")
    assert (tmp_path / "one.spz").read_bytes() == (tmp_path / "frames" / "frame_00007.spz").read_bytes()


def test_the_person_at_rest_stands_upright_at_the_origin(run, tmp_path):
    """PLY: x right, y down, z forward; the face looks to the viewer, along -z, and the crown is up, at negative y."""
    export(run, tmp_path / "a.ply", "--format", "ply")
    body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")[1]
    table = np.frombuffer(body, "<f4").reshape(-1, 17)
    means, colors = table[:, :3], 0.5 + 0.28209479 * table[:, 6:9]
    assert np.abs(means).max() < 0.2
    eyes = means[(colors < 0.15).all(1)]  # the painted head has black eyes
    assert eyes[:, 2].mean() < -0.05
    assert abs(eyes[:, 0].mean()) < 0.003
    assert -0.05 < eyes[:, 1].mean() < 0.03


def test_a_page_is_written_with_its_motions(run, tracked, tmp_path, capsys):
    export(run, tmp_path / "page", "--format", "web", "--motion", str(tracked.folder))
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"index.html", "avatar.bin", "deja-vu.js", "NOTICES.txt", "run.json"}
    assert unlisted(tmp_path / "page") == set()
    assert "open index.html" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        export(run, tmp_path / "page", "--format", "web")
    assert "already. Add --overwrite" in capsys.readouterr().err


def test_the_pages_buttons_show_what_the_viewers_show(run):
    person = load(run)
    performer = Performer("me", person.avatar, person.subject)
    controls = page_controls(person.head, face_camera(person.subject.neutral))
    assert list(controls.presets) == list(PRESETS)
    for name, weights in PRESETS.items():
        torch.testing.assert_close(controls.presets[name], performer.params(Wish(weights=weights), None).expression[0])


def test_the_pages_lid_slider_shuts_the_eye_of_this_person():
    head = load_head("anny")
    names, rest = head.spec.expression_names, head.neutral((1,))
    rest.expression[0, [names.index(lid) for lid in LIDS]] = 0.15  # somebody who looks tired at rest
    controls = page_controls(head, face_camera(rest))
    openings = Openings.of(head)
    for lid in LIDS:
        column = openings.names.index(lid)
        shut = rest.expression.clone()
        shut[0, names.index(lid)] += controls.swing[names.index(lid)]
        opened = openings.measure(rest)[0, column]
        assert openings.measure(replace(rest, expression=shut))[0, column] < 0.02 * opened
    plain = [place for place, name in enumerate(names) if name not in LIDS]
    torch.testing.assert_close(controls.swing[plain], torch.ones(len(plain)))


REFUSED = [
    (dict(format="ply", out="a.obj"), ConfigError, r"does not end in \.ply"),
    (dict(format="gltf", out="a.gltf", motion="m"), ConfigError, "one pose: add --frame"),
    (dict(format="npz", out="a.npz", motion="m"), ConfigError, "all poses share"),
    (dict(format="ply", out="a.ply", frame=3), ConfigError, "add --motion"),
    (dict(format="web", out="page", motion="m", frame=3), ConfigError, "plays whole motions"),
    (dict(format="ply", out="frames", motion="webcam:0"), ConfigError, "never ends"),
    (dict(format="spz", out="a.spz", webcam="w"), ConfigError, "belongs to --format web"),
]


@pytest.mark.parametrize(("request_", "error", "says"), REFUSED, ids=[says for *_, says in REFUSED])
def test_requests_that_mean_nothing_are_refused(request_, error, says):
    chosen = {key: Path(value) if key == "webcam" else value for key, value in request_.items() if key not in ("format", "out")}
    with pytest.raises(error, match=says):
        check_export(request_["format"], Path(request_["out"]), ExportConfig(**chosen))


def test_a_place_that_is_taken_is_refused(tmp_path):
    (tmp_path / "a.ply").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        refuse_export("ply", tmp_path / "a.ply", ExportConfig(), [], overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        refuse_export("web", tmp_path / "file", ExportConfig(), [], overwrite=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "damaged"),
        (lambda path: path.unlink(), "holds no avatar.safetensors"),
        (
            lambda path: rewritten(path, version="2"),
            "expected 1. A newer version of this program wrote it: update the program.",
        ),
    ],
    ids=["damaged", "missing", "newer"],
)
def test_avatars_that_cannot_be_exported_end_with_the_reason(change, says, run, tmp_path, capsys):
    change(run / "avatar.safetensors")
    with pytest.raises(SystemExit, match="2"):
        export(run, tmp_path / "a.ply", "--format", "ply")
    said = capsys.readouterr().err
    assert said.startswith("deja-vu: ")
    assert says in said
    assert not (tmp_path / "a.ply").exists()


@pytest.mark.parametrize("format", ["ply", "npz", "web"])
@pytest.mark.parametrize("kind", ["nerf", "nelf"])
def test_an_avatar_without_gaussians_is_refused_with_the_reason(kind, format, run, painted, tmp_path, capsys):
    avatar_type, config_type = AVATARS[kind]
    save_avatar(avatar_type(painted.head, painted.shape, config_type()), run / "avatar.safetensors", {})
    out = tmp_path / f"a.{format}"
    with pytest.raises(SystemExit, match="2"):
        export(run, out, "--format", format)
    assert f"holds a {kind} avatar, which computes pictures without Gaussians" in capsys.readouterr().err
    assert not out.exists()


def test_an_expression_script_sets_the_pose(run, tmp_path):
    script = tmp_path / "talk.yaml"
    script.write_text(SCRIPT)
    export(run, tmp_path / "frames", "--format", "ply", "--motion", str(script))
    contents = [path.read_bytes() for path in sorted((tmp_path / "frames").iterdir())]
    assert len(contents) > 2
    assert len(set(contents)) > 1


def rewritten(path: Path, **header: str) -> None:
    """The same avatar under another header."""
    with safe_open(path, framework="pt") as file:
        tensors, former = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    save_file({name: torch.clone(value) for name, value in tensors.items()}, path, metadata={**former, **header})


def test_a_frame_beyond_the_motion_is_refused(run, tracked, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        export(run, tmp_path / "a.glb", "--format", "gltf", "--motion", str(tracked.folder), "--frame", "15")
    assert "frames 0 to 14" in capsys.readouterr().err


def test_gaussians_are_posed_elsewhere_as_on_the_cpu(run) -> None:
    """And come back to the host, where files are written."""
    avatar = load_avatar(run / "avatar.safetensors")
    rest, pose = avatar.head.neutral((1,)), avatar.head.neutral((1,))
    pose.expression[:, 0] = 1.0
    here = pose_at_rest(avatar, pose, rest)
    with elsewhere() as device:
        there = pose_at_rest(avatar.to(device), pose, rest)
    assert type(there.means) is torch.Tensor
    torch.testing.assert_close(there.means, here.means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(there.sh, here.sh, rtol=1e-4, atol=1e-5)

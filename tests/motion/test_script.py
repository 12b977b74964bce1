from __future__ import annotations

import math

import pytest
import torch

from deja_vu.core.errors import InputError
from deja_vu.motion.actor import PRESETS
from deja_vu.motion.script import ScriptMotion

TEXT = """
fps: 20
keyframes:
  - {at: 0.5, face: smile}
  - {at: 1.5, face: smile, weights: {jawOpen: 0.4, mouthSmileLeft: 0.2}, head: {yaw: 30, pitch: -10}, gaze: {yaw: 20}}
  - {at: 2.0}
"""


@pytest.fixture
def written(tmp_path, anny):
    def make(text: str) -> ScriptMotion:
        (tmp_path / "s.yaml").write_text(text)
        return ScriptMotion(tmp_path / "s.yaml", anny)

    return make


def test_keyframes_are_met_and_eased_between(written, anny) -> None:
    motion = written(TEXT)
    assert (len(motion), motion.fps, motion.head_name) == (41, 20.0, "anny")
    frames = list(motion.frames())
    column = {name: anny.spec.expression_names.index(name) for name in ("jawOpen", "mouthSmileLeft", "mouthSmileRight")}
    values = {name: torch.stack([frame.expression[0, place] for frame in frames]) for name, place in column.items()}
    smile = PRESETS["smile"]["mouthSmileLeft"]
    assert values["mouthSmileLeft"][[0, 10, 30, 40]].tolist() == pytest.approx([smile, smile, 0.2, 0], abs=1e-6)
    assert values["mouthSmileRight"][30] == pytest.approx(smile)
    assert values["jawOpen"][20] == pytest.approx(0.2)  # halfway
    assert values["jawOpen"][11] < 0.4 * 0.05 * 0.6  # slow at first
    yaw = torch.stack([torch.atan2(frame.world_from_head[0, 0, 2], -frame.world_from_head[0, 2, 2]) for frame in frames])
    assert math.degrees(yaw[30]) == pytest.approx(30, abs=0.01)
    eye = anny.spec.joint_names.index("eye_left")
    assert math.degrees(frames[30].joints[0, eye, 1]) == pytest.approx(20, abs=0.01)
    assert float(frames[40].expression.abs().max()) == 0
    assert torch.equal(motion.neutral.expression, frames[40].expression)


def test_one_keyframe_is_a_still_picture(written) -> None:
    motion = written("keyframes: [{at: 0, face: o}]")
    assert len(motion) == 1
    assert next(motion.frames()).expression.max() == pytest.approx(0.6)


BAD = {
    "no yaml": ("keyframes: [", "not valid YAML"),
    "no mapping": ("[1, 2]", "is not a script"),
    "no keyframes": ("fps: 30", "is not a script"),
    "unknown top key": ("fps: 30\nspeed: 2\nkeyframes: [{at: 0}]", "unknown name 'speed'"),
    "fps": ("fps: fast\nkeyframes: [{at: 0}]", "fps is 'fast'"),
    "no time": ("keyframes: [{face: smile}]", "keyframe 1 must be a mapping with its time"),
    "unknown key": ("keyframes: [{at: 0, haed: {yaw: 1}}]", "keyframe 1: unknown name 'haed'. Did you mean 'head'"),
    "unknown face": ("keyframes: [{at: 0, face: smil}]", "unknown name 'smil'. Did you mean 'smile'"),
    "face of no known name": ("keyframes: [{at: 0, face: happy}]", "unknown name 'happy'. Known here: neutral, smile, blink"),
    "unknown weight": ("keyframes: [{at: 0, weights: {jawOpn: 1}}]", "unknown name 'jawOpn'. Did you mean 'jawOpen'"),
    "range": ("keyframes: [{at: 0, weights: {jawOpen: 80}}]", "jawOpen is 80. Expected a number from 0 to 1"),
    "nan": ("keyframes: [{at: 0, weights: {jawOpen: .nan}}]", "jawOpen is nan"),
    "roll of the eyes": ("keyframes: [{at: 0, gaze: {roll: 5}}]", "gaze: unknown name 'roll'"),
    "order": ("keyframes: [{at: 1}, {at: 1}]", "keyframe 2 is at 1 s, not after"),
    "weights": ("keyframes: [{at: 0, weights: [1, 2]}]", "weights must be a mapping"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_scripts_are_refused_by_keyframe(written, kind) -> None:
    text, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        written(text)


def test_an_absent_script_is_refused(tmp_path, anny) -> None:
    with pytest.raises(InputError, match="There is no script"):
        ScriptMotion(tmp_path / "absent.yaml", anny)

"""The exported page in a real browser: it shows what Python renders, and every control does something."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from deja_vu.avatars.gaussian.config import CodeNetworkConfig, GaussianConfig
from deja_vu.core.orbit import HEAD_ORBIT
from deja_vu.export.web import Clip, write_web, write_webcam
from deja_vu.io import assets
from deja_vu.motion.actor import Actor, Angles
from deja_vu.motion.retarget import Retargeter
from deja_vu.motion.torso import neck_pivot
from tests.export.pages import SIDE, hosted, on_disk, pinhole, pixels, psnr, seen, set_slider, wait_until

PAGE_DB = 45
"""The issue asks for 35. Levels of 8 bits, half-float blending and 8 bits of the picture leave more than 50 on these heads."""
MEDIAPIPE = Path(__file__).parents[2] / "deja_vu" / "export" / "player" / "node_modules" / "@mediapipe" / "tasks-vision"
REST = """const rest = async ({ loop, playback }) => {
  do await new Promise(requestAnimationFrame); while (playback.fresh || loop.moved || loop.waiting || loop.sorting || loop.sorted);
};"""
"""Until all that was asked for is drawn, and nothing is on its way."""
AFTER = """async ([selector, value]) => {
  REST
  const avatar = await dejaVu;
  const input = document.querySelector(selector);
  input.value = value;
  input.dispatchEvent(new Event("input"));
  await rest(avatar);
  return avatar.face.params.expression;
}""".replace("REST", REST)
"""The expression that is shown after a control was set."""
FIRST_PICTURE = """async (motion) => {
  const avatar = await dejaVu;
  REST
  avatar.set({ headYaw: -45, headPitch: 30 });
  await rest(avatar);
  avatar.play(motion).pause();
  const shown = await new Promise((resolve) => {
    const off = avatar.on("frame", () => avatar.motion && (off(), resolve(avatar.canvas.toDataURL("image/png"))));
  });
  return [shown, await avatar.snapshot()];
}""".replace("REST", REST)
"""The picture with which a motion begins, as it appears, and the exact one of that pose."""

SHORT = CodeNetworkConfig(steps=50)
VARIANTS = {
    "default": GaussianConfig(uv_size=96, blend_size=64, blendmaps=3),
    "tracked": GaussianConfig(uv_size=96, blend_size=64, blendmaps=3, correction=False),
    "paper": GaussianConfig(uv_size=64, blend_size=64, blendmaps=4, code="softmax", axes="head"),
    "network": GaussianConfig(
        uv_size=64, blend_size=64, blendmaps=4, code="network", axes="head", code_network=CodeNetworkConfig(steps=50)
    ),
    "still": GaussianConfig(uv_size=64, blend_size=64, blendmaps=0),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_page_shows_what_python_renders(name, make_avatar, subject, camera, controls, motion, opened, screenshots, tmp_path):
    avatar = make_avatar(VARIANTS[name])
    write_web(avatar, subject, controls, [], name, tmp_path)
    motion = motion if name == "default" else motion[:3]
    page = opened(on_disk(tmp_path))
    with torch.no_grad():
        ours = avatar.render(motion, camera, torch.ones(3)).rgb.clamp(0, 1).numpy()
    shown = [seen(page, motion[k : k + 1], camera) for k in range(len(motion))]
    sheet = np.concatenate([np.concatenate(shown[:3], 1), np.concatenate(list(ours[:3]), 1)])
    Image.fromarray((255 * sheet).round().astype(np.uint8)).save(screenshots / f"page_{name}.png")
    assert np.ptp(ours) > 0.5
    assert min(psnr(a, b) for a, b in zip(shown, ours, strict=True)) > PAGE_DB


def test_the_page_shows_a_whole_person_as_python_renders(
    person, person_subject, person_controls, camera, person_motion, opened, screenshots, tmp_path
):
    """Heads turned by up to 60 degrees on torsos of their own poses."""
    write_web(person, person_subject, person_controls, [], "person", tmp_path)
    page = opened(on_disk(tmp_path))
    with torch.no_grad():
        ours = person.render(person_motion, camera, torch.ones(3)).rgb.clamp(0, 1).numpy()
    shown = [seen(page, person_motion[k : k + 1], camera) for k in range(len(person_motion))]
    sheet = np.concatenate([np.concatenate(shown[::3], 1), np.concatenate(list(ours[::3]), 1)])
    Image.fromarray((255 * sheet).round().astype(np.uint8)).save(screenshots / "page_person.png")
    assert min(psnr(a, b) for a, b in zip(shown, ours, strict=True)) > PAGE_DB
    limbs = page.evaluate("async () => { const a = (await dejaVu).set({ headYaw: 30 }); return [a.face.params, a.face.rest]; }")
    turned, rest = ({name: np.array(part[name]).reshape(4, 4) for name in ("pose", "torso")} for part in limbs)
    np.testing.assert_allclose(turned["pose"] @ turned["torso"], rest["pose"] @ rest["torso"], atol=1e-7)  # the torso stays
    pivot = np.append(neck_pivot(person.head, person.shape).numpy(), 1)
    np.testing.assert_allclose(turned["pose"] @ pivot, rest["pose"] @ pivot, atol=1e-7)  # and so does what the head turns on


@pytest.mark.parametrize("kind", ["person", "head_on_neck"])
def test_sliders_turn_a_head_as_drive_does(
    kind, person_rest, person_subject, person_controls, camera, opened, screenshots, request, tmp_path
):
    """On a torso that stays; of a head alone the neck goes with it. Beyond what a person's neck gives, too."""
    avatar = request.getfixturevalue(kind)
    write_web(avatar, person_subject, person_controls, [], kind, tmp_path)
    page = opened(on_disk(tmp_path))
    turns = torch.tensor([[45.0, 0, 0], [-45, 0, 0], [0, 30, 0], [0, -30, 0], [0, 0, 30], [-40, 25, -20], [85, 10, 0]])
    angles = Angles(torch.deg2rad(turns), *torch.zeros(2, len(turns), 3))
    actor = Actor(avatar.head)
    own = replace(person_rest, shape=avatar.shape[None])
    carry = Retargeter(avatar.head, actor.neutral, own, body=avatar.shows_person, acted=True)
    turned = carry(actor.act(torch.zeros(len(turns), len(actor.names)), angles))
    with torch.no_grad():
        ours = avatar.render(turned, camera, torch.ones(3)).rgb.clamp(0, 1).numpy()
    script = """async ([[headYaw, headPitch, headRoll], camera]) => {
      const avatar = await dejaVu;
      return avatar.reset().set({ headYaw, headPitch, headRoll }).snapshot(undefined, camera);
    }"""
    shown = [pixels(page.evaluate(script, [turn, pinhole(camera)]))[..., :3] for turn in turns.tolist()]
    Image.fromarray((255 * np.concatenate([np.concatenate(shown, 1), np.concatenate(list(ours), 1)])).round().astype(np.uint8)).save(
        screenshots / f"page_turned_{kind}.png"
    )
    assert min(psnr(a, b) for a, b in zip(shown, ours, strict=True)) > PAGE_DB


@pytest.mark.parametrize("kind", ["person", "head_on_neck"])
def test_the_camera_comes_near_but_never_into_the_avatar(kind, person_rest, person_subject, person_controls, opened, request, tmp_path):
    avatar = request.getfixturevalue(kind)
    turn = Clip("Turntable", person_rest, 30.0, torch.tensor([2.0]))
    write_web(avatar, person_subject, person_controls, [turn], kind, tmp_path)
    page = opened(on_disk(tmp_path))
    script = """async ([yaw, pitch, motion]) => {
      const avatar = (await dejaVu).reset();
      avatar.loop.stop();  // so near, a CPU would draw for minutes
      if (motion) avatar.play(motion).pause();
      avatar.advance(performance.now());
      avatar.view.reset();
      for (let k = 0; k < 6; k++) avatar.view.move(yaw / 6, pitch / 6);
      for (let k = 0; k < 20; k++) avatar.view.move(0, 0, 1.3);
      return avatar.view.pinhole().cameraFromWorld;
    }"""
    with torch.no_grad():
        surface = avatar.vertices(person_rest)[0].numpy()
    for look in ([0, 0, ""], [90, 0, ""], [180, 40, ""], [0, 44, ""], [0, -44, ""], [0, 0, "Turntable"]):
        place = np.linalg.inv(np.array(page.evaluate(script, look)).reshape(4, 4))[:3, 3]
        gap = np.linalg.norm(surface - place, axis=1).min()
        assert 0.06 < gap < 0.15, look  # hair and cloth stand off the surface by up to five centimeters


def test_a_torso_that_is_not_given_goes_as_python_lets_it(person, person_rest, person_subject, person_controls, opened, tmp_path):
    """Poses of a head without a torso's: it rests, but for what the neck does not give."""
    write_web(person, person_subject, person_controls, [], "person", tmp_path)
    page = opened(on_disk(tmp_path))
    mover = person_rest[[0] * 4]
    mover.world_from_head[:, :3, 3] += torch.tensor([[0.0, 0, 0], [0.02, 0, 0.01], [0.05, 0.01, 0], [-0.2, 0, 0.1]])
    expected = Retargeter(person.head, person_rest, person_rest, body=True)(mover)
    whole = "async (pose) => (await dejaVu).face.whole({ pose }).torso"
    for pose, torso in zip(expected.world_from_head, expected.torso, strict=True):
        np.testing.assert_allclose(page.evaluate(whole, pose.flatten().tolist()), torso.flatten(), atol=1e-6)


def test_the_camera_goes_round_a_person_and_the_page_says_where_nobody_filmed(
    person, person_subject, person_controls, person_motion, opened, tmp_path
):
    still = person_subject.neutral[[0] * 4]
    turn = Clip("Turntable", still, 30.0, torch.tensor([0.0, 0.5, 3.0, 5.8]))
    write_web(person, person_subject, person_controls, [turn], "person", tmp_path)
    page = opened(on_disk(tmp_path))
    script = """async (second) => {
      REST
      const avatar = await dejaVu;
      if (second === null) avatar.reset();
      else avatar.play("Turntable").pause().seek(second);
      await rest(avatar);
      return [avatar.face.seenFrom(avatar.view.pinhole().cameraFromWorld), document.getElementById("unfilmed").hidden];
    }""".replace("REST", REST)
    yaws, hidden = zip(*[page.evaluate(script, second) for second in (0.001, 0.034, 0.067, 0.101, None)], strict=True)
    start = yaws[0]
    assert abs(start) < 3
    turns = [(yaw - start + 180) % 360 - 180 for yaw in yaws]
    expected = [math.degrees(yaw) for yaw in (0, 0.5, 3.0, 5.8 - 2 * math.pi, 0)]
    assert turns == pytest.approx(expected, abs=3)  # about the head's middle, which is not its origin
    assert hidden == (True, True, False, True, True)  # filmed from -30 to 20 degrees, and 15 more count as filmed
    for _ in range(18):  # half the way round by hand
        page.evaluate("async () => (await dejaVu).view.move(10, 0)")
    assert abs(page.evaluate(script, None)[0]) == pytest.approx(180, abs=5)


def test_a_page_from_a_host_shows_the_same_as_one_from_disk(exported_page, page, camera, pose, opened):
    with hosted(exported_page) as address:
        there = seen(opened(address), pose, camera)
    np.testing.assert_array_equal(there, seen(page, pose, camera))


def test_sliders_move_what_they_name_and_reset_puts_it_back(page, capture, screenshots):
    before = seen(page)
    capture(page, screenshots / "page_controls.png")
    set_slider(page, "[data-control=jawOpen]", 1)
    opened_mouth = np.abs(seen(page) - before).max(-1) > 0.05
    assert opened_mouth.mean() > 0.002
    set_slider(page, "[data-control=headYaw]", 30)
    turned = seen(page)
    assert (np.abs(turned - before).max(-1) > 0.05).mean() > 0.05
    page.click("#reset")
    assert psnr(seen(page), before) > 50


@pytest.mark.parametrize(("angles", "nose"), [("headYaw", (1, 0)), ("headPitch", (0, -1))])
def test_the_head_turns_as_the_names_say(page, angles, nose):
    """To its left, which is on the right of the picture, and up; x right and y down, as the camera sees it."""
    set_slider(page, f"[data-control={angles}]", 20)
    pose = np.array(page.evaluate("async () => (await dejaVu).face.params.pose")).reshape(4, 4)
    np.testing.assert_allclose(pose[:2, 2], math.sin(math.radians(20)) * np.array(nose), atol=1e-6)
    assert pose[2, 2] == pytest.approx(-math.cos(math.radians(20)), abs=1e-6)


def test_names_set_and_read_head_gaze_and_face_as_python_turns_them(page):
    values = {"headYaw": 25.0, "headPitch": -12.0, "headRoll": 8.0, "gazeYaw": 10.0, "gazePitch": 5.0, "jawOpen": 0.4}
    read = page.evaluate(
        "async (values) => { const a = (await dejaVu).set(values); return Object.keys(values).map((name) => a.get(name)); }", values
    )
    assert read == pytest.approx(list(values.values()), abs=1e-4)
    face = page.evaluate("async () => (await dejaVu).face.params")
    turn = Rotation.from_euler("YXZ", [25, 12, 8], degrees=True).as_matrix()  # about the head's own axes, y up and z out of the face
    expected = np.diag([1.0, -1.0, -1.0]) @ turn  # as it faces a camera
    np.testing.assert_allclose(np.array(face["pose"]).reshape(4, 4)[:3, :3], expected, atol=1e-6)
    with pytest.raises(Exception, match='no control "jawopen"'):
        page.evaluate("async () => void (await dejaVu).set({ jawopen: 1 })")


def test_presets_and_backgrounds_change_the_picture(page):
    before = seen(page)
    page.get_by_role("button", name="Blink").click()
    blinking = seen(page)
    assert (np.abs(blinking - before).max(-1) > 0.05).any()
    wait_until(page, "document.querySelector('[data-control=eyeBlinkLeft]').value === '1'")  # with the next picture
    page.locator("#background").evaluate("(input) => { input.value = '#ff8000'; input.dispatchEvent(new Event('input')); }")
    np.testing.assert_allclose(seen(page)[0, 0], [1, 128 / 255, 0], atol=1e-6)


def test_the_mouse_orbits_and_zooms(page):
    before = seen(page)
    covered = (np.abs(before - 1).max(-1) > 0.1).mean()
    page.mouse.move(SIDE / 2, SIDE / 2)
    page.mouse.wheel(0, 600)
    away = seen(page)
    assert (np.abs(away - 1).max(-1) > 0.1).mean() < 0.9 * covered
    page.mouse.down()
    page.mouse.move(SIDE / 2 + 80, SIDE / 2, steps=3)
    page.mouse.up()
    assert psnr(seen(page), away) < 35


def test_what_a_promise_will_not_hold_is_waited_for_in_vain(page):
    wait_until(page, "(await dejaVu).name === 'someone'")
    with pytest.raises(AssertionError, match="did not become true"):
        wait_until(page, "(await dejaVu).name === 'nobody'", patience_ms=100)


def test_nobody_looks_behind_the_head(page):
    """The camera turns as far as the limit, whichever way it is asked."""
    angles = """async ([yaw, pitch]) => {
      const { view, face } = await dejaVu;
      view.reset();
      const turns = () => {
        const from = view.camera.position.clone().sub(view.controls.target).normalize();
        return [Math.atan2(from.x, from.z), Math.asin(from.y)].map((angle) => angle * 180 / Math.PI);
      };
      const start = turns();
      for (let k = 0; k < 30; k++) view.move(yaw, pitch);
      return turns().map((angle, i) => angle - start[i]);
    }"""
    assert page.evaluate(angles, [20, 0]) == pytest.approx([HEAD_ORBIT.yaw, 0], abs=0.1)
    assert page.evaluate(angles, [-20, 0]) == pytest.approx([-HEAD_ORBIT.yaw, 0], abs=0.1)
    assert page.evaluate(angles, [0, 20])[1] == pytest.approx(HEAD_ORBIT.pitch, abs=0.1)
    assert page.evaluate(angles, [0, -20])[1] == pytest.approx(-HEAD_ORBIT.pitch, abs=0.1)
    page.mouse.move(SIDE / 2, SIDE / 2)
    page.mouse.down()
    page.mouse.move(SIDE / 2 + 450, SIDE / 2, steps=3)
    page.mouse.up()
    wait_until(page, "Math.abs((await dejaVu).view.controls.getAzimuthalAngle()) > 1.2")
    turned = page.evaluate("async () => (await dejaVu).view.controls.getAzimuthalAngle()")
    assert abs(math.degrees(turned)) < HEAD_ORBIT.yaw + 5  # the first direction is not exactly straight ahead


MOVED = """async () => {
    const { face } = await dejaVu;
    for (;;) {
        const shown = [...face.params.expression];
        if (shown.some((value, i) => Math.abs(value - face.rest.expression[i]) > 0.01)) return shown;
        await new Promise(requestAnimationFrame);
    }
}"""
"""The expression as soon as it is not that of the face at rest."""


def test_a_motion_plays_and_stops_at_a_touch(page, motion):
    expected = motion.expression.numpy()
    page.select_option("#motion", "Talk")
    shown = np.array(page.evaluate(MOVED))
    assert np.abs(expected - shown).max(1).min() < 1e-4  # one of the motion's frames
    assert page.get_by_role("button", name="Pause").is_visible()
    set_slider(page, "[data-control=headPitch]", 5)
    assert page.evaluate("async () => (await dejaVu).motion") is None
    assert page.locator("#motion").input_value() == ""


def test_a_motion_can_be_stopped_searched_and_slowed(page, motion):
    page.get_by_role("button", name="Play").click()  # the first motion, as none is chosen
    page.get_by_role("button", name="Pause").click()
    shown = np.array(page.evaluate(AFTER, ["#place", 0.2]))
    np.testing.assert_allclose(shown, motion.expression[5].numpy(), atol=1e-4)  # 25 frames a second
    assert page.inner_text("#time") == "0:00.2 / 0:00.4"
    page.select_option("#speed", "0.25")
    assert page.evaluate("async () => (await dejaVu).speed") == 0.25
    page.select_option("#speed", "1")


def test_the_first_picture_of_a_motion_is_in_its_own_order(page):
    """However slow the browser is: drawn in the order of another pose, what lies behind shines through."""
    shown, exact = page.evaluate(FIRST_PICTURE, "Talk")
    np.testing.assert_array_equal(pixels(shown), pixels(exact))


def test_keys_turn_play_and_reset(page):
    page.locator("#view").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("async () => (await dejaVu).view.controls.getAzimuthalAngle()") == pytest.approx(math.radians(5), abs=0.05)
    page.keyboard.press("Space")
    assert page.evaluate("async () => (await dejaVu).motion") == "Talk"
    page.keyboard.press("r")
    assert page.evaluate("async () => (await dejaVu).motion") is None
    page.keyboard.press("h")
    assert page.locator("#panel").is_hidden()
    page.keyboard.press("h")
    assert page.locator("#panel").is_visible()


def test_everything_that_can_be_used_has_a_name(page):
    """As a screen reader hears it."""
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select, canvas, summary")]
      .filter((node) => !(node.getAttribute("aria-label") || node.labels?.length || node.textContent.trim()))
      .map((node) => node.outerHTML)""")
    assert nameless == []
    assert page.title() == "someone · Déjà-vu"
    assert page.locator("#webcam").count() == 0  # nothing is offered that is not there


def test_a_page_without_its_binary_asks_for_it(exported_page, page, camera, pose, opened, capture, screenshots, tmp_path):
    (tmp_path / "index.html").write_bytes((exported_page / "index.html").read_bytes())
    alone = opened(on_disk(tmp_path), ready=False)
    alone.wait_for_selector("#message:not([hidden])")
    assert "avatar.bin is not beside this page" in alone.inner_text("#reason")
    capture(alone, screenshots / "page_without_binary.png")
    opened.complaints.clear()
    alone.set_input_files("#file", exported_page / "avatar.bin")
    alone.wait_for_selector("#message", state="hidden")
    np.testing.assert_array_equal(seen(alone, pose, camera), seen(page, pose, camera))


def test_a_binary_of_another_format_is_refused(exported_page, opened, tmp_path):
    for path in exported_page.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "avatar.bin").write_bytes(b'dejavu("not compressed")\n')
    page = opened(on_disk(tmp_path), ready=False)
    page.wait_for_selector("#message:not([hidden])")
    assert "damaged" in page.inner_text("#reason")
    opened.complaints.clear()


@pytest.mark.slow
def test_the_webcam_drives_from_disk(avatar, subject, controls, opened, tmp_path):
    """MediaPipe's program and model load from one file without a server, and watch the camera; the test picture shows no face."""
    model = assets.find("face_landmarker")
    if not MEDIAPIPE.is_dir() or model is None:
        pytest.skip("needs @mediapipe/tasks-vision (make web) and the landmarker's model (python -m deja_vu.io.assets)")
    write_web(avatar, subject, controls, [], "someone", tmp_path, webcam=True)
    write_webcam(MEDIAPIPE, model, tmp_path)
    page = opened(on_disk(tmp_path))
    page.locator("#webcam").evaluate("(button) => button.click()")
    wait_until(page, "document.getElementById('webcam-note').textContent.includes('stays on this computer')")
    assert page.locator("#webcam").text_content() == "Stop the webcam"
    page.locator("#webcam").evaluate("(button) => button.click()")
    assert page.locator("video").is_hidden()

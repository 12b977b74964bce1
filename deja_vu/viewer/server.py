"""The server: for each visitor a panel, a camera, and a thread that draws the latest request."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError, MissingAssetError
from deja_vu.core.gaussians import Gaussians, sh_to_rgb
from deja_vu.render.reference import rotation_matrices
from deja_vu.viewer.camera import fitted_fov, is_usable, looking_at, within_orbit
from deja_vu.viewer.config import ViewerConfig
from deja_vu.viewer.gate import Gate, guard_servers
from deja_vu.viewer.look import DARK, LIGHT, dress
from deja_vu.viewer.panel import SPLATS, Panel, put
from deja_vu.viewer.stage import Stage, Wish, view_camera

if TYPE_CHECKING:
    import viser

UNITS = 100.0
"""Scene units a meter: the browser keeps covariances in half floats, which have no room for square millimeters in meters."""
MOVING = 0.25
"""Seconds after the last change for which pictures may be coarse."""
SWIFT = 1 / 30
"""Time that a picture may take while things move, seconds; above it the picture is drawn smaller."""
COARSEST = 0.4
"""Smallest picture while things move, over the full one's side."""
MOVING_QUALITY = 80
"""JPEG quality while things move."""
STILL_QUALITY = 95
"""JPEG quality when they stand still."""


class Viewer:
    """The running page; use it in a `with` block."""

    def __init__(self, stage: Stage, config: ViewerConfig) -> None:
        """Open the page.

        Args:
            stage: what is to be seen.
            config: where.

        Raises:
            InputError: the port is taken, or the address is not this machine's.
            MissingAssetError: the package viser is not installed.
        """
        refuse_taken(config.host, config.port)
        try:
            import viser
        except ImportError as error:
            raise MissingAssetError(f"The viewer needs the package viser ({error}): pip install 'viser>=1.1,<2'") from error
        self.stage, self.config, self.draws = stage, config, threading.Lock()
        self.title = f"{', '.join(performer.name for performer in stage.performers)} · Déjà-vu"
        with contextlib.redirect_stdout(io.StringIO()), guard_servers(Gate(config.host)):  # without its own greeting
            self._server = viser.ViserServer(host=config.host, port=config.port, label=self.title, verbose=False)
        if self._server.get_port() != config.port:  # somebody took it just now, and viser went on to the next
            self._server.stop()
            raise InputError(f"Cannot listen on {config.host}:{config.port} (taken). Choose another with --port.")
        self._server.gui.set_panel_label(self.title)
        self._server.gui.main_panel.dock_right()
        self._server.scene.set_up_direction("-y")
        camera = self._server.initial_camera
        camera.look_at, camera.position = tuple(stage.center * UNITS), tuple(stage.front * UNITS)
        camera.up, camera.fov = (0.0, -1.0, 0.0), stage.performers[0].fov
        self._sessions: dict[int, Session] = {}
        self._server.on_client_connect(self._welcome)
        self._server.on_client_disconnect(self._farewell)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *error: object) -> None:
        for session in list(self._sessions.values()):
            session.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def _welcome(self, client: viser.ClientHandle) -> None:
        self._sessions[client.client_id] = Session(self, client)
        if client.client_id not in self._server.get_clients():  # who left while the page was made has been missed
            self._farewell(client)

    def _farewell(self, client: viser.ClientHandle) -> None:
        session = self._sessions.pop(client.client_id, None)
        if session is not None:
            session.close()


class Session:
    """One visitor. Controls and camera only say that something changed; the thread reads their latest values when it draws."""

    def __init__(self, viewer: Viewer, client: viser.ClientHandle) -> None:
        self._viewer, self._client, self._stage = viewer, client, viewer.stage
        self._wake, self._open = threading.Event(), True
        self._per_pixel = 0.0
        self._sent = 0.0
        self._intervals: deque[float] = deque(maxlen=15)
        self._began: float | None = None
        self._pace = 1.0
        self._spoken = 0.0
        self._splats: viser.GaussianSplatHandle | None = None
        dark = dress(client, viewer.title)
        self.panel = Panel(client.gui, viewer.stage, self.touch, DARK if dark else LIGHT)
        self.panel.screenshot.on_click(lambda event: self._screenshot())
        self.panel.commands["picture"].on_trigger(lambda event: self._screenshot())
        self.panel.home.on_click(lambda event: self._home())
        self.panel.commands["front"].on_trigger(lambda event: self._home())
        self._aspect, self._arrived = 0.0, False
        client.camera.on_update(lambda camera: self._look_around())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.touch()

    def touch(self) -> None:
        """Something changed."""
        self._wake.set()

    def _look_around(self) -> None:
        """The camera moved, or the window changed, in which the head is then framed again."""
        camera = self._client.camera
        if not self._sees():
            return
        if camera.image_height and abs(camera.aspect - self._aspect) > 0.01:
            self._aspect = camera.aspect
            camera.fov = fitted_fov(self._stage.performers[0].fov, camera.aspect)
        self._arrived = self._arrived or not self._hold_camera()[2]
        self.touch()

    def close(self) -> None:
        """The visitor left."""
        self._open = False
        self._wake.set()

    def _run(self) -> None:
        fine = True
        answered: tuple[Wish, str, tuple[float, ...]] | None = None
        while self._open:
            clip = self._stage.clips[self.panel.motion.value] if self.panel.playing else None
            self._wake.wait(timeout=0.5 / clip.fps if clip else None if fine else MOVING / 5)
            self._wake.clear()
            if not self._open:
                return
            if not self._sees():
                fine = True  # until another camera comes
                continue
            self._advance()
            wish = self.panel.wish()
            asked = (wish, self.panel.way.value, self._view_key())
            if asked != answered:
                self._draw(wish, moving=True)
                fine, answered = False, asked
            elif not fine and not self.panel.playing and time.monotonic() - self._sent > MOVING:
                self._come_back()
                answered = wish, self.panel.way.value, self._view_key()  # before drawing, so that no later change is missed
                self._draw(wish, moving=False)
                self._say(0.0)
                fine = True

    def _sees(self) -> bool:
        """Whether the visitor's camera can be one."""
        camera = self._client.camera
        if not camera.image_height:
            return False  # the browser has not said its size yet
        return is_usable(wxyz=camera.wxyz, position=camera.position, look_at=camera.look_at, fov=camera.fov, aspect=camera.aspect)

    def _view_key(self) -> tuple[float, ...]:
        """All that the picture has of the visitor's camera."""
        camera = self._client.camera
        return (*camera.wxyz, *camera.position, camera.fov, camera.image_width, camera.image_height)

    def _advance(self) -> None:
        """Move to the frame at which the motion that plays has arrived."""
        now = time.monotonic()
        if not self.panel.playing:
            self._began = None
            return
        clip = self._stage.clips[self.panel.motion.value]
        if self._began is None:
            self._began, self._pace = now - self.panel.frame.value / clip.fps / self.panel.pace, self.panel.pace
        elif self._pace != self.panel.pace:  # go on from here
            self._began, self._pace = now - (now - self._began) * self._pace / self.panel.pace, self.panel.pace
        frame = int((now - self._began) * self.panel.pace * clip.fps) % len(clip.frames)
        if frame != self.panel.frame.value:
            put(self.panel.frame, frame)

    def _draw(self, wish: Wish, *, moving: bool) -> None:
        if self.panel.way.value == SPLATS and wish.compared is None:
            self._show_splats(wish)
        else:
            self._show_picture(wish, moving=moving)
        now = time.monotonic()
        if moving and now - self._sent < MOVING:
            self._intervals.append(now - self._sent)
        self._sent = now
        self._speak()

    def _size(self, scale: float) -> tuple[int, int]:
        """Width and height of the picture: the window's, up to a limit, times a scale."""
        camera = self._client.camera
        height = max(64, round(min(self._viewer.config.size, camera.image_height) * scale))
        return max(64, round(height * camera.aspect)), height

    def _hold_camera(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """What the camera looks at and where it may stand, scene units, and whether it stands elsewhere."""
        center, position = np.asarray(self._client.camera.look_at), np.asarray(self._client.camera.position)
        held = within_orbit(position, center, self._stage.orbit)
        nearest = UNITS * self._stage.nearest(center / UNITS, held / UNITS)
        held = center + (held - center) * max(1.0, nearest / float(np.linalg.norm(held - center)))
        return center, held, bool(np.abs(held - position).max() > 1e-3 * np.linalg.norm(position - center))

    def _come_back(self) -> None:
        """Put a camera that went too far to where the picture was drawn from, so that the next turn begins there."""
        center, held, strayed = self._hold_camera()
        if strayed and self._arrived:  # at first the browser's camera is elsewhere, and on its way
            with self._client.atomic():
                self._client.camera.position, self._client.camera.look_at = tuple(held), tuple(center)

    def view(self, width: int, height: int) -> Camera:
        """The visitor's camera, held where the head can be seen from."""
        camera = self._client.camera
        center, held, strayed = self._hold_camera()
        if strayed:
            return looking_at(center / UNITS, held / UNITS, camera.fov, width, height)
        return view_camera(camera.wxyz, np.asarray(camera.position) / UNITS, camera.fov, width, height)

    def _shoot(self, wish: Wish, scale: float) -> np.ndarray:
        width, height = self._size(scale)
        view = self.view(width, height)
        with self._viewer.draws:  # pictures of several visitors would only slow each other
            begun = time.monotonic()
            picture = self._stage.picture(wish, view)
            spent = (time.monotonic() - begun) / (width * height)
        self._per_pixel = spent if not self._per_pixel else 0.8 * self._per_pixel + 0.2 * spent
        return picture

    def _show_picture(self, wish: Wish, *, moving: bool) -> None:
        if self._client.camera.image_height == 0:
            return  # the browser has not said its size yet
        if self._splats is not None:
            self._splats.remove()
            self._splats = None
        scale = 1.0
        if moving and self._per_pixel:
            width, height = self._size(1.0)
            scale = min(1.0, max(COARSEST, (SWIFT / (self._per_pixel * width * height)) ** 0.5))
        picture = self._shoot(wish, scale)
        self._client.scene.set_background_image(picture, format="jpeg", jpeg_quality=MOVING_QUALITY if moving else STILL_QUALITY)

    def _show_splats(self, wish: Wish) -> None:
        self._come_back()
        with self._viewer.draws:
            drawn = splats(self._stage.gaussians(wish))
        background = np.empty((2, 2, 3), np.uint8)
        background[...] = wish.background
        self._client.scene.set_background_image(background, format="png")
        if self._splats is None:
            self._splats = self._client.scene.add_gaussian_splats("/avatars", *drawn)
        else:
            with self._client.atomic():
                handle = self._splats
                handle.centers, handle.covariances, handle.rgbs, handle.opacities = drawn

    def _speak(self) -> None:
        """Say how fast pictures follow each other while things move, twice a second."""
        now = time.monotonic()
        if now - self._spoken > 0.5 and len(self._intervals) > 2:
            self._spoken = now
            self._say(len(self._intervals) / sum(self._intervals))

    def _say(self, fps: float) -> None:
        wish = self.panel.wish()
        self.panel.say(fps, filmed=wish.compared is not None or self._stage.is_filmed(wish, self.view(*self._size(1.0))))

    def _screenshot(self) -> None:
        """Hand the present view to the visitor, at full size and without loss."""
        if not self._sees():
            return
        picture = PillowImage.fromarray(self._shoot(self.panel.wish(), 1.0))
        data = io.BytesIO()
        picture.save(data, "PNG")
        self._client.send_file_download(f"{self._stage.performers[0].name}.png", data.getvalue(), save_immediately=True)

    def _home(self) -> None:
        """The camera to where it began."""
        camera = self._client.camera
        with self._client.atomic():
            camera.up_direction = (0.0, -1.0, 0.0)
            camera.position, camera.look_at = tuple(self._stage.front * UNITS), tuple(self._stage.center * UNITS)
            camera.fov = fitted_fov(self._stage.performers[0].fov, camera.aspect)


def splats(drawn: Gaussians) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centers [N 3] and covariances [N 3 3] in scene units, colors [N 3] and opacities [N 1], as the browser wants them."""
    axes = rotation_matrices(drawn.quats[0]) * (drawn.scales[0] * UNITS)[:, None, :]
    colors = sh_to_rgb(drawn.sh[0, :, 0])  # the browser knows no color that depends on the view
    parts = (drawn.means[0] * UNITS, axes @ axes.transpose(1, 2), colors.clamp(0, 1), drawn.opacities[0][:, None])
    centers, covariances, rgbs, opacities = (part.numpy() for part in parts)
    return centers, covariances, rgbs, opacities


def refuse_taken(host: str, port: int) -> None:
    """Check that an address can be listened on.

    Raises:
        InputError: another program listens there, or the address is not this machine's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"Cannot listen on {host}:{port} ({error}). Choose another with --port or --host.") from error

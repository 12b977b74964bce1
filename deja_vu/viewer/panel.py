"""The sliders and buttons of one visitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from deja_vu.motion.actor import PRESETS
from deja_vu.viewer.stage import Stage, Wish

if TYPE_CHECKING:
    import viser

REGIONS = {"Eyes": ("eye",), "Brows": ("brow",), "Jaw": ("jaw",), "Mouth": ("mouth",), "Cheeks, nose, tongue": ("cheek", "nose", "tongue")}
"""Folders of expression sliders, by how the names in them begin."""
EXACT, SPLATS = "exact pictures", "splats in the browser"
T = TypeVar("T")
STILL = "(sliders)"
"""Entry of the list of motions that leaves the face to the sliders."""


def put(handle: viser.GuiInputHandle[T], value: T) -> None:
    """Set a control from the program."""
    handle.value = value  # type: ignore[misc]  # viser defines something between getter and setter, and mypy loses sight of the latter


class Panel:
    """Builds the controls, and says what they say; `changed` is called when one of them is moved."""

    def __init__(self, gui: viser.GuiApi, stage: Stage, changed: Callable[[], None]) -> None:
        """Build everything.

        Args:
            gui: of one client.
            stage: avatars and motions to choose from.
            changed: told of every change.
        """
        self._gui, self._stage, self._changed = gui, stage, changed
        self.speed = gui.add_markdown("")
        self._face(stage.performers[0].head.spec.expression_names)
        self._show()

    def wish(self) -> Wish:
        """What the controls say now."""
        motion = None if self.motion.value == STILL else self.motion.value
        return Wish(
            weights={name: slider.value for name, slider in self.sliders.items() if slider.value},
            head=(self.yaw.value, self.pitch.value, self.roll.value),
            gaze=(self.gaze_yaw.value, self.gaze_pitch.value),
            background=self.background.value,
            motion=motion,
            frame=self.frame.value,
            compared=self.compared.value if self.compare.value else None,
        )

    @property
    def playing(self) -> bool:
        """Whether a motion runs."""
        return self.play.value and self.motion.value != STILL

    def _face(self, names: Sequence[str]) -> None:
        gui = self._gui
        with gui.add_folder("Face"):
            presets = gui.add_button_group("preset", tuple(PRESETS))
            self.reset = gui.add_button("reset face and head")
        with gui.add_folder("Head and gaze"):
            self.yaw, self.pitch, self.roll = (self._slider(name, 60.0) for name in ("yaw", "pitch", "roll"))
            self.gaze_yaw, self.gaze_pitch = (self._slider(name, 30.0) for name in ("gaze yaw", "gaze pitch"))
        self.sliders: dict[str, viser.GuiSliderHandle[float]] = {}
        for region, beginnings in REGIONS.items():
            inside = [name for name in names if name.startswith(beginnings)]
            if inside:
                self._region(region, inside)
        rest = [name for name in names if name not in self.sliders]
        if rest:
            self._region("Expressions", rest)
        presets.on_click(lambda event: self._take(PRESETS[event.target.value]))
        self.reset.on_click(lambda event: self._neutral())

    def _region(self, region: str, names: Sequence[str]) -> None:
        with self._gui.add_folder(region, expand_by_default=False):
            for name in names:
                slider = self._gui.add_slider(name, min=0.0, max=1.0, step=0.01, initial_value=0.0)
                slider.on_update(lambda event: self._changed())
                self.sliders[name] = slider
            button = self._gui.add_button(f"reset {region.lower()}")
            button.on_click(lambda event: self._take(dict.fromkeys(names, 0.0), keep=True))

    def _show(self) -> None:
        gui = self._gui
        with gui.add_folder("Motion"):
            self.motion = gui.add_dropdown("motion", (STILL, *self._stage.clips), initial_value=STILL)
            self.play = gui.add_checkbox("play", False)
            self.frame = gui.add_slider("frame", min=0, max=1, step=1, initial_value=0)
        video = self._stage.performers[0].sequence
        with gui.add_folder("Compare", expand_by_default=False, visible=video is not None):
            self.compare = gui.add_checkbox("beside the training frame", False)
            self.compared = gui.add_slider("training frame", min=0, max=max(1, len(video or ()) - 1), step=1, initial_value=0)
        with gui.add_folder("Picture"):
            ways = (EXACT, SPLATS) if self._stage.has_gaussians else (EXACT,)
            self.way = gui.add_dropdown("drawn as", ways, initial_value=EXACT)
            self.background = gui.add_rgb("background", (255, 255, 255))
            self.screenshot = gui.add_button("screenshot")
            self.home = gui.add_button("camera to the front")
        self.motion.on_update(lambda event: self._choose())
        for handle in (self.play, self.frame, self.compare, self.compared, self.way, self.background):
            handle.on_update(lambda event: self._changed())

    def _slider(self, name: str, reach: float) -> viser.GuiSliderHandle[float]:
        slider = self._gui.add_slider(name, min=-reach, max=reach, step=0.5, initial_value=0.0)
        slider.on_update(lambda event: self._changed())
        return slider

    def _choose(self) -> None:
        if self.motion.value in self._stage.clips:
            self.frame.max = max(1, len(self._stage.clips[self.motion.value].frames) - 1)
            put(self.frame, 0)
            put(self.play, True)
        else:
            put(self.play, False)
        self._changed()

    def _take(self, weights: dict[str, float], *, keep: bool = False) -> None:
        """Set sliders; all others to zero unless they are kept. A motion that runs is stopped."""
        for name, slider in self.sliders.items():
            wanted = weights.get(name, slider.value if keep else 0.0)
            if slider.value != wanted:
                put(slider, wanted)
        put(self.motion, STILL)
        self._changed()

    def _neutral(self) -> None:
        for slider in (self.yaw, self.pitch, self.roll, self.gaze_yaw, self.gaze_pitch):
            put(slider, 0.0)
        self._take({})

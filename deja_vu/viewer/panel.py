"""The sliders and buttons of one visitor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from deja_vu.avatars import GaussianAvatar
from deja_vu.motion.actor import PRESETS
from deja_vu.motion.labels import HEAD_AND_GAZE, TURNS, WORDS, Section, presets, sections
from deja_vu.viewer.stage import Stage, Wish

if TYPE_CHECKING:
    import viser

EXACT = "Exact pictures"
"""Way of showing avatars: the program renders them and sends pictures."""
SPLATS = "Splats in the browser"
"""Way of showing avatars: the browser draws their Gaussians."""
SPEEDS = {"0.25×": 0.25, "0.5×": 0.5, "1×": 1.0, "2×": 2.0}
"""How fast motions may play, against how fast they were."""
T = TypeVar("T")
STILL = WORDS["no_motion"]
"""Entry of the list of motions that leaves the face to the sliders."""
ANGLES = frozenset(turn.name for turn in TURNS)
"""Sliders in degrees; all others are weights of expressions."""


def put(handle: viser.GuiInputHandle[T], value: T) -> None:
    """Set a control from the program."""
    handle.value = value  # type: ignore[misc]  # viser defines something between getter and setter, and mypy loses sight of the latter


def clamp(value: float, low: float, high: float) -> float:
    """A number between two others; the lower one for what is no number."""
    return min(max(value, low), high) if math.isfinite(value) else low


class Panel:
    """Builds the controls, and says what they say; `changed` is called when one of them is moved."""

    def __init__(self, gui: viser.GuiApi, stage: Stage, changed: Callable[[], None], background: tuple[int, int, int]) -> None:
        """Build everything.

        Args:
            gui: of one client.
            stage: avatars and motions to choose from.
            changed: told of every change.
            background: of the picture at first.
        """
        self._gui, self._stage, self._changed = gui, stage, changed
        self._status = gui.add_markdown("")
        self.say(0.0)
        self._presets()
        self.background = gui.add_rgb(WORDS["background"], background)
        self.background.on_update(lambda event: changed())
        self._motion()
        self._picture()
        self.sliders: dict[str, viser.GuiSliderHandle[float]] = {}
        actor = stage.performers[0].actor
        ours = sections(actor.names, actor.head.spec.expression_limits)
        for section in (Section(HEAD_AND_GAZE, TURNS, opened=True), *ours):
            self._section(section)
        self._keys()

    def wish(self) -> Wish:
        """What the controls say now, within what they allow: a visitor's program may send anything."""
        values = {name: clamp(slider.value, slider.min, slider.max) for name, slider in self.sliders.items()}
        red, green, blue = (int(clamp(level, 0, 255)) for level in self.background.value[:3])
        filmed = self.compare.value and self._stage.performers[0].sequence is not None
        return Wish(
            weights={name: value for name, value in values.items() if value and name not in ANGLES},
            head=(values["headYaw"], values["headPitch"], values["headRoll"]),
            gaze=(values["gazeYaw"], values["gazePitch"]),
            background=(red, green, blue),
            motion=self.motion.value if self.motion.value in self._stage.clips else None,
            frame=int(clamp(self.frame.value, 0, self.frame.max)),
            compared=int(clamp(self.compared.value, 0, self.compared.max)) if filmed else None,
        )

    @property
    def playing(self) -> bool:
        """Whether a motion runs."""
        return self.play.value and self.motion.value != STILL

    @property
    def pace(self) -> float:
        """How fast the motion plays, against how fast it was."""
        return SPEEDS.get(self.speed.value, 1.0)

    def say(self, fps: float, *, filmed: bool = True) -> None:
        """Show what there is, or that one looks from where nobody filmed, and how many pictures come in a second.

        A line that is always there and never two, so that nothing jumps.
        """
        counts = [one.avatar.num_gaussians for one in self._stage.performers if isinstance(one.avatar, GaussianAvatar)]
        what = f"{sum(counts):,} Gaussians" if counts else "Pictures"
        self._status.content = f"{what if filmed else WORDS['unfilmed']} · {f'{fps:.0f} fps' if fps else 'still'}"

    def _presets(self) -> None:
        faces: dict[str, dict[str, float]] = {}
        for kind, labels in presets().items():
            faces.update({label: PRESETS[name] for name, label in labels.items()})
            group = self._gui.add_button_group(kind, tuple(labels.values()))
            group.on_click(lambda event: self._take(faces[event.target.value]))
        self.reset = self._gui.add_button(WORDS["reset"], color="gray")
        self.reset.on_click(lambda event: self._neutral())

    def _motion(self) -> None:
        gui = self._gui
        with gui.add_folder(WORDS["motion"]):
            self.motion = gui.add_dropdown(WORDS["motion"], (STILL, *self._stage.clips), initial_value=STILL)
            self.play = gui.add_checkbox(WORDS["play"], False)
            self.frame = gui.add_slider(WORDS["frame"], min=0, max=1, step=1, initial_value=0)
            self.speed = gui.add_dropdown(WORDS["speed"], tuple(SPEEDS), initial_value="1×")
        self.motion.on_update(lambda event: self._choose())
        for handle in (self.play, self.frame, self.speed):
            handle.on_update(lambda event: self._changed())

    def _picture(self) -> None:
        gui = self._gui
        video = self._stage.performers[0].sequence
        filmed, last = video is not None, max(1, len(video or ()) - 1)
        with gui.add_folder("Picture"):
            ways = (EXACT, SPLATS) if self._stage.has_gaussians else (EXACT,)
            self.way = gui.add_dropdown("Drawn as", ways, initial_value=EXACT)
            self.compare = gui.add_checkbox("Beside the film", False, visible=filmed)
            self.compared = gui.add_slider("Filmed frame", min=0, max=last, step=1, initial_value=0, visible=filmed)
            self.screenshot = gui.add_button(WORDS["picture"], color="gray")
            self.home = gui.add_button(WORDS["front"], color="gray")
        for handle in (self.way, self.compare, self.compared):
            handle.on_update(lambda event: self._changed())

    def _section(self, section: Section) -> None:
        names = [control.name for control in section.controls]
        with self._gui.add_folder(section.title, expand_by_default=section.opened):
            for control in section.controls:
                hint = f"{control.name}: {control.hint}" if control.hint else control.name
                slider = self._gui.add_slider(
                    control.label, min=control.low, max=control.limit, step=control.step, initial_value=0.0, hint=hint
                )
                slider.on_update(lambda event: self._changed())
                self.sliders[control.name] = slider
            button = self._gui.add_button(f"{WORDS['reset_section']} {section.title.lower()}", color="gray")
            button.on_click(lambda event: self._take(dict.fromkeys(names, 0.0), keep=True))

    def _keys(self) -> None:
        """Keys, as on the exported page; viser lists them on ctrl + K."""
        gui = self._gui
        self.commands = {
            "play": gui.add_command(WORDS["play"], hotkey="space"),
            "reset": gui.add_command(WORDS["reset"], hotkey="R"),
            "picture": gui.add_command(WORDS["picture"], hotkey="S"),
            "front": gui.add_command(WORDS["front"], hotkey="0"),
        }
        self.commands["play"].on_trigger(lambda event: self._toggle())
        self.commands["reset"].on_trigger(lambda event: self._neutral())

    def _toggle(self) -> None:
        """Start the motion that is chosen, or else the first; stop it if it plays."""
        if self.motion.value == STILL and self._stage.clips:
            put(self.motion, next(iter(self._stage.clips)))
            self._choose()
        else:
            put(self.play, not self.play.value)
            self._changed()

    def _choose(self) -> None:
        if self.motion.value in self._stage.clips:
            self.frame.max = max(1, len(self._stage.clips[self.motion.value].frames) - 1)
            put(self.frame, 0)
            put(self.play, True)
        else:
            put(self.play, False)
        self._changed()

    def _take(self, weights: dict[str, float], *, keep: bool = False) -> None:
        """Set sliders; all other expressions to zero unless they are kept. A motion that runs is stopped."""
        for name, slider in self.sliders.items():
            wanted = weights.get(name, slider.value if keep or name in ANGLES else 0.0)
            if slider.value != wanted:
                put(slider, wanted)
        put(self.motion, STILL)
        self._changed()

    def _neutral(self) -> None:
        self._take(dict.fromkeys(self.sliders, 0.0))

"""Look at avatars in the browser, and move them."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.motion import MotionSource
from deja_vu.motion.retarget import refuse_other_head
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.pipelines.drive import open_motion
from deja_vu.pipelines.person import load
from deja_vu.pipelines.requests import WEBCAM
from deja_vu.training.devices import pick_device
from deja_vu.viewer.config import ViewerConfig
from deja_vu.viewer.server import Viewer, refuse_taken
from deja_vu.viewer.stage import Clip, Performer, Stage

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def view(runs: tuple[Path, ...], motion: tuple[str, ...], config: ViewerConfig, *, device: str = "cpu") -> None:
    """Show avatars in the browser until Ctrl-C.

    Args:
        runs: run folders of `deja-vu personalize`; several stand side by side.
        motion: further motions to choose from: videos, tracked folders, .csv captures, .yaml scripts.
        config: where the page is.
        device: where to draw, see `pick_device`.
    """
    refuse_taken(config.host, config.port)  # before anything slow
    with open_viewer(runs, motion, config, device=device):
        print(f"Open http://{'127.0.0.1' if config.host == '0.0.0.0' else config.host}:{config.port} in a browser. Ctrl-C ends this.")
        if config.host in LOOPBACK:
            print("Only this machine can open it (--host 0.0.0.0 lets others in).")
        else:
            print(f"Everybody who can reach {config.host} can see and move these avatars; there is no password.")
        threading.Event().wait()


def open_viewer(runs: tuple[Path, ...], motion: tuple[str, ...], config: ViewerConfig, *, device: str = "cpu") -> Viewer:
    """The running page of some avatars. It reads nothing but the runs and motions named here.

    Raises:
        InputError: no run, one that is not finished, or a motion that cannot be used.
        ConfigError: the avatars have different heads.
        FormatError: a run is damaged.
    """
    if not runs:
        raise InputError("Nothing to look at. Expected a run folder: deja-vu view runs/me")
    performers: list[Performer] = []
    clips: dict[str, Clip] = {}
    for run in runs:
        person = load(run, pick_device(device))
        head, name = person.head, person.name
        if performers and head.spec.name != performers[0].head.spec.name:
            raise ConfigError(f"{run} has head '{head.spec.name}', {runs[0]} has '{performers[0].head.spec.name}'. View them one by one.")
        shown = config.film == "all" or (config.film == "here" and config.host in LOOPBACK)
        performers.append(Performer(name, person.avatar, person.subject, person.video if shown else None))
        if person.video is not None:
            film = "As filmed" if len(runs) == 1 else f"As filmed: {name}"
            clips[unique_name(clips, film)] = Clip.of(TrackedMotion(person.video), "source")
    with ExitStack() as stack:
        for text in motion:
            clips[unique_name(clips, Path(text).name)] = Clip.of(open_recording(text, performers[0], stack), config.torso)
    return Viewer(Stage(performers, clips), config)


def open_recording(text: str, performer: Performer, stack: ExitStack) -> MotionSource:
    """A motion that ends, for the head on the stage.

    Raises:
        InputError: a camera, another head's motion, or none that can be used.
    """
    if WEBCAM.fullmatch(text):
        raise InputError("The viewer plays recordings. For a camera: deja-vu drive RUN --motion webcam:0")
    source = open_motion(text, performer.head, None, stack, performer.avatar.device)
    refuse_other_head(source.head_name, performer.head)
    for note in source.notes:
        print(f"note: {note}")
    return source


def unique_name(taken: dict[str, Clip], name: str) -> str:
    """A name that no other motion has."""
    return name if name not in taken else next(f"{name} ({n})" for n in range(2, len(taken) + 3) if f"{name} ({n})" not in taken)

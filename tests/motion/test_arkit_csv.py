from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.errors import InputError
from deja_vu.motion.arkit_csv import ANGLE_NAMES, ArkitCsvMotion

PASCAL = [name[0].upper() + name[1:] for name in ARKIT_NAMES]


def timecode(seconds: float, rate: int = 60, start: int = 14 * 3600) -> str:
    whole, frame = divmod(round((start + seconds) * rate * 1000), rate * 1000)
    hours, rest = divmod(whole, 3600)
    return f"{hours % 24:02d}:{rest // 60:02d}:{rest % 60:02d}:{frame / 1000:06.3f}"


def write(
    path: Path,
    frames: int = 90,
    names: list[str] | None = None,
    values: dict[str, np.ndarray] | None = None,
    times: list[str] | None = None,
    edit=lambda lines: lines,
) -> Path:
    """A capture as Live Link Face writes it; `values` sets columns, `edit` changes the finished lines."""
    names = [*PASCAL, *ANGLE_NAMES] if names is None else names
    values = values or {}
    times = times or [timecode(frame / 60) for frame in range(frames)]
    lines = [",".join(["Timecode", "BlendShapeCount", *names])]
    for frame, time in enumerate(times):
        lines.append(",".join([time, "61", *(f"{values.get(name, np.zeros(len(times)))[frame]:.6f}" for name in names)]))
    path.write_text("\n".join(edit(lines)) + "\n")
    return path


def test_a_capture_moves_what_it_names(anny, tmp_path) -> None:
    jaw, smile = np.linspace(0, 0.8, 90), np.linspace(0.5, 0, 90)
    motion = ArkitCsvMotion(write(tmp_path / "a.csv", values={"JawOpen": jaw, "MouthSmileLeft": smile}), anny)
    assert (len(motion), motion.fps, motion.head_name, motion.notes) == (90, 60.0, "anny", ())
    expression = torch.cat([frame.expression for frame in motion.frames()])
    names = anny.spec.expression_names
    assert expression[:, names.index("jawOpen")].numpy() == pytest.approx(jaw, abs=1e-5)
    assert expression[:, names.index("mouthSmileLeft")].numpy() == pytest.approx(smile, abs=1e-5)
    assert float(expression.sum(1)[0]) == pytest.approx(0.5)
    assert float(motion.neutral.expression.abs().max()) == 0


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name[0].lower() + name[1:],
        str.lower,
        lambda name: re.sub("(Left|Right)$", lambda side: "_" + side[0][0], name),
        lambda name: re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(),
    ],
)
def test_columns_are_known_in_every_spelling_and_order(anny, tmp_path, rename) -> None:
    names = [rename(name) for name in reversed(PASCAL)]
    path = write(tmp_path / "a.csv", 10, [*names, *ANGLE_NAMES], {rename("EyeBlinkRight"): np.ones(10)})
    motion = ArkitCsvMotion(path, anny)
    blink = anny.spec.expression_names.index("eyeBlinkRight")
    first = next(motion.frames())
    assert first.expression[0].nonzero()[:, 0].tolist() == [blink]


def test_angles_are_radians_and_turn_as_documented(anny, tmp_path) -> None:
    frames = 60
    yaw = np.where(np.arange(frames) < 30, -0.2, 0.2)  # symmetric, so that the mean pose is straight ahead
    motion = ArkitCsvMotion(write(tmp_path / "a.csv", frames, values={"HeadYaw": yaw}), anny)
    last = list(motion.frames())[-1]
    assert float(last.world_from_head[0, 0, 2]) == pytest.approx(math.sin(0.2), abs=1e-4)  # to the actor's left
    assert motion.neutral.world_from_head[0, :3, :3].diagonal().tolist() == pytest.approx([1, -1, -1], abs=1e-4)
    degrees = ArkitCsvMotion(write(tmp_path / "b.csv", frames, values={"HeadYaw": np.rad2deg(yaw)}), anny)
    torch.testing.assert_close(list(degrees.frames())[-1].world_from_head, last.world_from_head, rtol=0, atol=1e-4)


def test_eye_angles_take_their_sign_from_the_look_weights(anny, tmp_path) -> None:
    """Apps disagree on the sign of yaw; the look weights do not. Without eye angles the look weights turn the eyes."""
    look = np.concatenate([np.zeros(30), np.linspace(0, 0.8, 30)])
    weights = {"EyeLookOutLeft": look, "EyeLookInRight": look}  # to the actor's left
    eye = anny.spec.joint_names.index("eye_left")

    def turned(extra: dict[str, np.ndarray]) -> float:
        motion = ArkitCsvMotion(write(tmp_path / "a.csv", 60, values=weights | extra), anny)
        return float(list(motion.frames())[-1].joints[0, eye, 1])

    assert turned({"LeftEyeYaw": 0.4 * look, "RightEyeYaw": 0.4 * look}) == pytest.approx(0.32, abs=1e-4)
    assert turned({"LeftEyeYaw": -0.4 * look, "RightEyeYaw": -0.4 * look}) == pytest.approx(0.32, abs=1e-4)
    assert turned({}) == pytest.approx(0.48, abs=1e-4)


def test_uneven_time_is_evened_out(anny, tmp_path) -> None:
    """Lines at random moments of a steady opening of the jaw: the frames are even, and their jaw is where time says."""
    rng = np.random.default_rng(0)
    moments = np.cumsum(rng.choice([1, 1, 1, 2], 120)) / 60
    jaw = 0.2 * moments
    motion = ArkitCsvMotion(write(tmp_path / "a.csv", values={"JawOpen": jaw}, times=[timecode(t) for t in moments]), anny)
    assert motion.fps == 60
    opened = torch.cat([frame.expression[:, anny.spec.expression_names.index("jawOpen")] for frame in motion.frames()]).numpy()
    assert len(motion) == round((moments[-1] - moments[0]) * 60) + 1
    assert opened == pytest.approx(jaw[0] + 0.2 * np.arange(len(motion)) / 60, abs=2e-4)


@pytest.mark.parametrize("rate", [24, 30, 60])
def test_the_rate_follows_from_the_timecode(anny, tmp_path, rate) -> None:
    times = [timecode(frame / rate, rate) for frame in range(2 * rate)]
    assert ArkitCsvMotion(write(tmp_path / "a.csv", times=times), anny).fps == rate


def test_midnight_repeats_pauses_and_lost_faces_are_bridged_and_said(anny, tmp_path) -> None:
    night = [timecode(frame / 60, start=24 * 3600 - 1) for frame in range(120)]
    assert len(ArkitCsvMotion(write(tmp_path / "night.csv", times=night), anny)) == 120
    twice = [timecode(frame / 60) for frame in sorted([*range(60), 30])]
    assert "1 lines repeat" in ArkitCsvMotion(write(tmp_path / "twice.csv", times=twice), anny).notes[0]
    pause = [timecode(frame / 60 + (2 if frame >= 60 else 0)) for frame in range(120)]
    assert "2.0 s without a line" in ArkitCsvMotion(write(tmp_path / "pause.csv", times=pause), anny).notes[0]

    def lose(lines: list[str]) -> list[str]:
        return [*lines[:20], *(",".join([line.split(",")[0], "0"]) for line in lines[20:25]), *lines[25:], "", ""]

    lost = ArkitCsvMotion(write(tmp_path / "lost.csv", values={"JawOpen": np.linspace(0, 0.89, 90)}, edit=lose), anny)
    assert "no face in 5 of 90 lines" in lost.notes[0]
    assert float(list(lost.frames())[21].expression[0, anny.spec.expression_names.index("jawOpen")]) == pytest.approx(0.21, abs=1e-4)


def test_semicolons_seconds_unknown_columns_and_missing_angles(anny, tmp_path) -> None:
    names = [*[name for name in PASCAL if name != "TongueOut"], "Mood"]

    def other(lines: list[str]) -> list[str]:
        header, *rows = (line.split(",") for line in lines)
        rows = [[f"{number / 30:.4f}", *row[1:]] for number, row in enumerate(rows)]
        return ["\ufeff" + ";".join(["timestamp", *header[1:]]), *(";".join(row) for row in rows)]

    motion = ArkitCsvMotion(write(tmp_path / "a.csv", 30, names, edit=other), anny)
    assert motion.fps == 30
    assert "unknown columns are ignored: Mood" in motion.notes[0]
    assert "no column tongueOut, HeadYaw" in motion.notes[1]


def test_a_moment_can_be_the_rest(anny, tmp_path) -> None:
    path = write(tmp_path / "a.csv", values={"JawOpen": np.linspace(0, 0.89, 90)})
    rest = ArkitCsvMotion(path, anny, neutral_at=0.5).neutral
    assert float(rest.expression[0, anny.spec.expression_names.index("jawOpen")]) == pytest.approx(0.3, abs=1e-4)
    with pytest.raises(InputError, match=r"from 0 to 1.48 s"):
        ArkitCsvMotion(path, anny, neutral_at=2.0)


def change(number: int, column: int, cell: str):
    def edit(lines: list[str]) -> list[str]:
        cells = lines[number - 1].split(",")
        cells[column] = cell
        return [*lines[: number - 1], ",".join(cells), *lines[number:]]

    return edit


def swap(lines: list[str]) -> list[str]:
    return [*lines[:10], lines[11], lines[10], *lines[12:]]


BAD = {
    "nan": (change(17, 9, "nan"), r"line 17: cheekSquintRight is 'nan'"),
    "empty cell": (change(5, 9, ""), r"line 5: cheekSquintRight is ''"),
    "text": (change(5, 56, "left"), r"line 5: HeadRoll is 'left'"),
    "infinite": (change(5, 9, "inf"), r"line 5: cheekSquintRight is 'inf'"),
    "percent": (change(5, 9, "55"), r"line 5: cheekSquintRight is 55. Expected ARKit weights from 0 to 1"),
    "short line": (lambda lines: [*lines[:7], "14:00:00:07,61,0.5", *lines[8:]], r"line 8: 3 cells under 63 column names"),
    "timecode": (change(4, 0, "2 o'clock"), r"line 4: the timecode is '2 o'clock'. Expected HH:MM:SS:FF"),
    "backwards": (swap, r"line 12: time runs backwards by 0.017 s"),
    "one column missing": (change(1, 2, "BrowDownLeftt"), r"lacks 1 of ARKit's 52 expressions: browDownLeft.*Is 'BrowDownLeftt' meant"),
    "twice": (change(1, 3, "browDown_L"), r"two columns mean browDownLeft"),
    "no time": (change(1, 0, "Clock"), r"no column Timecode"),
    "only a header": (lambda lines: lines[:1], r"holds no motion"),
    "no face ever": (lambda lines: [lines[0], "14:00:00:00,0"], r"no line in which a face was seen"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_captures_are_refused_by_line(anny, tmp_path, kind) -> None:
    edit, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        ArkitCsvMotion(write(tmp_path / "a.csv", edit=edit), anny)


def test_files_that_are_no_captures_are_refused(anny, tmp_path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        ArkitCsvMotion(tmp_path / "absent.csv", anny)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="cannot be read as text"):
        ArkitCsvMotion(tmp_path / "binary.csv", anny)
    (tmp_path / "table.csv").write_text("Timecode,price,volume\n00:00:00:00,1,2\n")
    with pytest.raises(InputError, match=r"lacks 51 of ARKit's 52 expressions"):
        ArkitCsvMotion(tmp_path / "table.csv", anny)


UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "ticks of 100 nanoseconds": 1e7, "nanoseconds": 1e9}


@pytest.mark.parametrize("rate", [15, 30, 60, 120])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("start", [0.0, 1_700_000_000.0], ids=["from zero", "since 1970"])
def test_times_in_other_units_are_known_by_their_steps(anny, tmp_path, unit, rate, start) -> None:
    """Three seconds are three seconds, whatever counts them."""
    times = [str(round((start + frame / rate) * UNITS[unit])) for frame in range(3 * rate)]
    path = write(tmp_path / "a.csv", times=times, edit=lambda lines: [lines[0].replace("Timecode", "timestamp"), *lines[1:]])
    motion = ArkitCsvMotion(path, anny)
    assert motion.fps == pytest.approx(min(rate, 60), rel=0.01)  # stamps are rounded
    assert len(motion) / motion.fps == pytest.approx(3, abs=0.06)
    assert any(f"times count {unit}" in note for note in motion.notes)


@pytest.mark.parametrize("column", ["Time (ms)", "timestamp_ms", "Time [s]", "Timecode"])
def test_a_clock_is_known_with_its_unit_beside_its_name_and_without_a_timecode_in_it(anny, tmp_path, column) -> None:
    times = [f"{frame / 30 * (1 if '[s]' in column else 1000):.3f}" for frame in range(60)]
    path = write(tmp_path / "a.csv", times=times, edit=lambda lines: [lines[0].replace("Timecode", column), *lines[1:]])
    motion = ArkitCsvMotion(path, anny)
    assert (len(motion), motion.fps) == (60, 30.0)
    assert not any(column in note for note in motion.notes), "no unknown column"


def test_steps_that_are_no_frame_s_are_refused(anny, tmp_path) -> None:
    """A column of frame numbers that is called time."""
    renamed = lambda lines: [lines[0].replace("Timecode", "time"), *lines[1:]]  # noqa: E731
    path = write(tmp_path / "a.csv", times=[str(frame) for frame in range(90)], edit=renamed)
    with pytest.raises(InputError, match="the time grows by 1, not the time of a frame"):
        ArkitCsvMotion(path, anny)


@pytest.mark.parametrize("first", [[], ["sep=;"]], ids=["plain", "a spreadsheet's"])
def test_decimal_commas_are_read_and_said(anny, tmp_path, first) -> None:
    jaw = np.linspace(0, 0.8, 90)
    seconds = [f"{1234 + frame / 60:.4f}" for frame in range(90)]

    def localize(lines: list[str]) -> list[str]:
        lines[0] = lines[0].replace("Timecode", "Seconds")
        return [*first, *(line.replace(",", ";").replace(".", ",") for line in lines)]

    motion = ArkitCsvMotion(write(tmp_path / "a.csv", values={"JawOpen": jaw}, times=seconds, edit=localize), anny)
    assert (len(motion), motion.fps) == (90, 60.0)
    expression = torch.cat([frame.expression for frame in motion.frames()])
    assert expression[:, anny.spec.expression_names.index("jawOpen")].numpy() == pytest.approx(jaw, abs=1e-3)
    assert any("decimal commas" in note for note in motion.notes)


def test_decimal_commas_between_commas_are_refused_with_the_reason(anny, tmp_path) -> None:
    path = write(tmp_path / "a.csv", edit=lambda lines: [lines[0], *(line.replace(".", ",") for line in lines[1:])])
    with pytest.raises(InputError, match="Are there decimal commas"):
        ArkitCsvMotion(path, anny)


@pytest.mark.parametrize("form", ["2024-05-01T23:59:{:06.3f}", "23:59:{:06.3f}"])
def test_dates_and_times_of_day_are_read(anny, tmp_path, form) -> None:
    path = write(
        tmp_path / "a.csv",
        times=[form.format(30 + frame / 30) for frame in range(60)],
        edit=lambda lines: [lines[0].replace("Timecode", "timestamp"), *lines[1:]],
    )
    motion = ArkitCsvMotion(path, anny)
    assert (len(motion), motion.fps) == (60, 30.0)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda lines: [*lines[:3], '"' + "9" * 200_000 + '"'], "not a CSV file that can be read"),
        (lambda lines: [*lines[:3], lines[3].rpartition(",")[0] + ",1e300"], "nothing that can be measured"),
        (lambda lines: [*lines[:3], lines[3].rpartition(",")[0] + "," + "x" * 5000], "not a number"),
    ],
    ids=["a long cell", "an angle beyond all", "a long word"],
)
def test_cells_that_no_program_writes_are_refused_in_short(anny, tmp_path, edit, reason) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        ArkitCsvMotion(write(tmp_path / "a.csv", edit=edit), anny)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 500


def test_a_clock_that_is_set_while_it_records_makes_no_motion_of_years(anny, tmp_path) -> None:
    """The first line at 0, the others in seconds since 1970: bridged, a hundred billion frames."""
    times = ["0", *(f"{1.7e9 + frame / 60:.4f}" for frame in range(60))]
    path = write(tmp_path / "a.csv", times=times, edit=lambda lines: [lines[0].replace("Timecode", "time"), *lines[1:]])
    motion = ArkitCsvMotion(path, anny)
    assert 60 <= len(motion) <= 80
    assert "the motion goes on there without the pause" in motion.notes[-1]


def test_a_capture_beyond_every_length_is_refused_unread(anny, tmp_path) -> None:
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(600 << 20)  # takes no space on the disk
    with pytest.raises(InputError, match="600 MB, more than four hours"):
        ArkitCsvMotion(tmp_path / "a.csv", anny)

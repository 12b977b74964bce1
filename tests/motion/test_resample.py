"""Motions keep their time: frames at uneven moments become an even rate, and gaps are bridged and said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.head import HeadParams
from deja_vu.core.rate import is_even, usual_rate
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.heads.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from deja_vu.motion.resample import play_evenly
from deja_vu.motion.tracked import TrackedMotion
from tests.helpers.people import as_sequence


def swinging(times: torch.Tensor) -> HeadParams:
    """A head that turns by 0.2 radians a second, moves by 10 cm a second and opens its mouth evenly; the torso stays in the world."""
    count = len(times)
    params = load_head("toy").neutral((count,))
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(torch.stack([torch.zeros(count), 0.2 * times, torch.zeros(count)], -1))
    pose[:, 0, 3] = 0.1 * times
    expression = params.expression.clone()
    expression[:, 0] = 0.3 * times
    return replace(params, expression=expression, world_from_head=pose, torso=torch.linalg.inv(pose))


def filmed(times: torch.Tensor, stated: float) -> TrackedSequence:
    sequence = as_sequence(swinging(times), "toy", stated)
    return replace(sequence, times=times)


def test_uneven_frames_are_played_in_their_own_time():
    """At 30 frames a second with jitter and a gap of two seconds, as a phone that was busy writes."""
    generator = torch.Generator().manual_seed(1)
    steps = torch.full((90,), 1 / 30) + 0.008 * (torch.rand(90, generator=generator) - 0.5)
    steps[40] = 2.0
    times = 5 + steps.cumsum(0)
    motion = TrackedMotion(filmed(times, 30.0))
    assert motion.fps == 30
    assert motion.begins == pytest.approx(float(times[0]))
    assert (len(motion) - 1) / motion.fps == pytest.approx(float(times[-1] - times[0]), abs=1 / 30)
    assert motion.notes == ("a.mp4: no face for 2.0 s at 1.3 s; the motion is bridged there.",)
    params = HeadParams.cat(list(motion.frames()))
    moments = times[0] + torch.arange(len(motion)) / 30
    # The motion is linear in time, so interpolation is exact; float32 times after five seconds have 5e-7.
    torch.testing.assert_close(matrix_to_axis_angle(params.world_from_head[:, :3, :3])[:, 1], 0.2 * moments, atol=1e-4, rtol=0)
    torch.testing.assert_close(params.world_from_head[:, 0, 3], 0.1 * moments, atol=1e-5, rtol=0)
    torch.testing.assert_close(params.expression[:, 0], 0.3 * moments, atol=1e-5, rtol=0)
    torch.testing.assert_close(params.world_from_torso, torch.eye(4).expand(len(params), 4, 4), atol=1e-5, rtol=0)


def test_a_pause_of_hours_is_taken_out_and_said():
    """As where a recorder's clock jumps: 26.5 hours at 30 frames a second would be three million frames."""
    times = torch.cat([torch.arange(30) / 30, 95444.0 + torch.arange(30) / 30]).double()
    motion = TrackedMotion(filmed(times, 30.0))
    assert motion.shortened
    assert 60 <= len(motion) <= 75
    assert motion.notes == ("a.mp4: nothing for 95443 s after 1.0 s; the motion goes on there without the pause.",)


def test_even_frames_are_left_as_they_are():
    sequence = filmed(torch.arange(50) / 25 + 0.04, 25.0)
    even = play_evenly(sequence)
    assert even.params is sequence.params
    assert (even.fps, even.notes) == (25.0, ())


@pytest.mark.parametrize(("stated", "stride"), [(60.0, 2), (120.0, 4), (240.0, 8), (59.94, 2)])
def test_thinned_frames_have_their_part_of_the_rate(stated, stride):
    """Folders that were tracked earlier say the file's rate over every second, fourth or eighth of its frames."""
    times = torch.arange(40) * stride / stated
    even = play_evenly(filmed(times, stated))
    assert even.fps == pytest.approx(stated / stride)
    assert len(even.params) == 40


def test_a_stated_rate_that_the_stamps_deny_is_not_believed():
    times = torch.arange(75) * 0.033
    assert usual_rate(times, 1000.0) == pytest.approx(1000 / 33, rel=0.02)
    assert usual_rate(times, 12.0) == pytest.approx(1000 / 33, rel=0.02)
    assert usual_rate(times[:1], 12.0) == 12.0
    assert not is_even(times, 12.0)

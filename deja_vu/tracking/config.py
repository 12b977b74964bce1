"""Settings of the tracker, separate from its code so that the command line need not load it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deja_vu.core.ranges import Count, Pixels, Positive, Range, Rate, Share, Texels, Weight
from deja_vu.tracking.detection_config import DetectionConfig, Runtime


@dataclass(frozen=True)
class SilhouetteConfig:
    """Deviations of the silhouette's measurement."""

    pixels: Weight = 1.0
    """Deviation of a contour point from the matte's border, pixels of a 256-pixel crop; 0 leaves it out."""
    robust: Rate = 3.0
    """Deviations at which a contour point counts a quarter."""
    correlation: Annotated[float, Range(1)] = 3.0
    """How many neighboring sectors count as one independent measurement."""
    sectors: Annotated[int, Range(8, 1024)] = 96
    """Directions from the head's middle, each with one contour point."""
    max_distance: Rate = 12.0
    """Distance from the matte's border beyond which a contour point is ignored, pixels of a 256-pixel crop."""
    unknown_margin: Positive = 13
    """Width of the window about a contour point in which all must have been filmed, pixels of a 256-pixel crop."""
    unknown_nearer: Weight = 2.0
    """Pixels by which the matte's border must be nearer than any place that was not filmed, where it may continue unseen."""


@dataclass(frozen=True)
class FitConfig:
    """Deviations of the tracker's measurements and priors."""

    landmark_px: Rate = 2.0
    """Deviation of a trusted landmark in pixels of a 512-pixel crop."""
    robust_px: Rate = 4.0
    """Distance at which a landmark counts half, in the same pixels."""
    expression: Rate = 0.15
    """Deviation of an ARKit-named expression from the landmarker's score."""
    unnamed_expression: Rate = 1.0
    """Deviation of an expression that the landmarker does not score, from zero."""
    jaw: Rate = 0.03
    """Deviation of the jaw joint from rest, radians; the expression jawOpen opens the mouth."""
    opening_jaw: Rate = 0.1
    """The same where the joint opens the mouth (FLAME), from the angle that the landmarker's score stands for."""
    jaw_open: Rate = 0.3
    """Angle of such a jaw at a score of one, radians."""
    eye: Rate = 0.35
    """Deviation of the gaze from straight ahead, radians."""
    eye_twist: Rate = 0.01
    """Deviation of an eye's turn about its own axis, radians."""
    identity: Rate = 0.25
    """Deviation of the identity coefficients; well under one, because the error of a landmark is much the same in every frame."""
    distance: Rate | None = 0.65
    """Expected distance of the head, meters: perspective follows from it, however the picture was cropped. If it is None, `focal_ratio`
    is expected instead."""
    focal_ratio: Annotated[float, Range(0.2, 20)] = 1.8
    """Expected focal length over the longer side of the picture, if a camera states it or no distance is expected."""
    focal_range: tuple[Rate, Rate] = (0.5, 4.0)
    """Smallest and largest ratio that may follow from an expected distance."""
    focal_deviation: Rate = 0.1
    """Deviation of the focal length's logarithm; tight, because the error of a landmark is much the same in every frame."""
    rotation_change: Rate = 0.02
    """Deviation of the head's rotation between frames at 30 fps, radians."""
    translation_change: Rate = 0.004
    """Deviation of the head's position across the view between frames at 30 fps, meters."""
    depth_change: Rate = 0.0065
    """Deviation of the logarithm of the head's distance between frames at 30 fps: 4 mm at 0.6 m. In meters, near heads would be favored."""
    change_robust: Rate = 3.0
    """Change of the pose at which its prior counts half, in these deviations: heads mostly rest and sometimes turn fast."""
    expression_change: Rate = 0.15
    """Deviation of an expression between frames at 30 fps."""
    component_change: Rate = 0.5
    """The same of a component in standard deviations (FLAME)."""
    steady_weight: Share = 0.3
    """Trust above which a landmark is taken to stay at its place on the surface, so that poses can be found from such landmarks alone."""
    identity_frames: Positive = 120
    """Frames, spread over the video, from which identity and focal length are solved."""
    start_ratios: tuple[Annotated[float, Range(0.2, 20)], ...] = (0.5, 0.9, 1.8, 3.6)
    """Focal lengths over the longer side of the video's frame from which the fit starts; the one with the lowest cost is continued."""
    start_frames: Positive = 12
    """Frames of these first fits, spread over the video."""
    start_steps: Annotated[int, Range(1, 1000)] = 5
    """Gauss-Newton steps of each of these."""
    steps: Annotated[int, Range(1, 1000)] = 8
    """Gauss-Newton steps with shared identity, and again for all frames."""

    def misfit(self) -> str | None:
        """What is wrong with the focal lengths, if anything."""
        if self.focal_range[0] > self.focal_range[1]:
            return f"focal_range goes from {self.focal_range[0]:g} to {self.focal_range[1]:g}. Expected the least first, then the largest."
        return None if self.start_ratios else "start_ratios is empty. Expected at least one focal length to begin from."


@dataclass(frozen=True)
class PhotometricConfig:
    """Deviations and steps of the photometric refinement."""

    resolution: Pixels = 256
    """Side of the small crops on which it runs, pixels."""
    rounds: Annotated[int, Range(0, 100)] = 3
    """How often the texture is lifted anew."""
    steps: Annotated[int, Range(1, 1000)] = 2
    """Gauss-Newton steps after each lift."""
    point_grid: Texels = 64
    """Texels a side of the grid from which surface points are taken."""
    color: Rate = 0.08
    """Floor of a point's color deviation; points that vary more between frames count less."""
    correlation: Annotated[float, Range(1)] = 5.0
    """How many neighboring points count as one independent measurement."""
    robust: Rate = 2.0
    """Color error at which a point counts a quarter, in its deviations."""
    landmark_px: Rate = 15.0
    """Deviation of a landmark while colors are fitted too, pixels of a 512-pixel crop."""
    expression: Rate = 0.2
    """Deviation of an expression from the landmarker's score."""
    min_facing: Share = 0.25
    """Least cosine between a point's normal and the direction to the camera."""
    min_alpha: Share = 0.9
    """Coverage of the person above which a pixel's color is the surface's."""
    min_times_seen: Positive = 3
    """Training frames that must show a point for it to be used."""
    texture_frames: Positive = 100
    """Training frames from which the texture is lifted."""
    texture_passes: Count = 2
    """How often it is lifted again with its light divided out."""
    texture_robust: Rate = 3.0
    """Color error at which a frame counts half for a point while the texture is lifted, in floors of the color deviation."""
    light_ridge: Weight = 0.02
    """Weight of the prior that a frame's light is even and of strength one, over the summed weight of its points."""
    light_deviation: Weight = 0.05
    """Color deviation added to that of each point when the light is solved."""
    darkest: Share = 0.3
    """Least light on a point, over its mean."""
    brightest: Annotated[float, Range(1)] = 3.0
    """Most light on a point, over its mean."""
    hull_frames: Count = 24
    """Training frames whose silhouettes give the hair's height; hair is tracked from the second round on."""
    video_frames: Count = 60
    """Training frames from which identity and focal length are refined along with the poses; 0 keeps both."""
    video_landmark_px: Rate = 5.0
    """As `landmark_px` while identity and focal length are refined: landmarks tell where eyes and mouth are, if not how the head moves."""
    silhouette: SilhouetteConfig = field(default_factory=SilhouetteConfig)
    """Measurement of the hair's and ears' outline, from the second round on."""


@dataclass(frozen=True)
class MatteConfig:
    """How the segmenter's coverage is refined to the edge."""

    runtime: Runtime = "litert"
    """What runs the segmenter; both give the same coverage within 1e-4."""
    inner_band: Share = 0.016
    """Width of the band inside the segmenter's edge in which it is not trusted, shares of the picture's side."""
    outer_band: Share = 0.026
    """The same outside the edge; thin hair is missed most."""
    noise: Weight = 1.5e-4
    """Variance of a channel from compression and sensor, colors in [0, 1]: (3 / 255)^2 and a little."""
    core: Share = 0.6
    """Part of the landmarks' hull that is the person in any case; in profile, the outermost landmarks leave the face."""
    face: Share = 0.94
    """Part of the hull in which the segmenter is trusted up to its edge."""
    color_spread: Weight = 20.0
    """Weight of the spread of the local colors relative to the compositing equation; 16 to 32 are nearest to closed-form matting."""
    plain_color_spread: Weight = 2.0
    """The same in front of a plain background, whose color is certain."""
    plain_share: Share = 0.9
    """Share of the border that must have one color for the background to count as plain."""
    plain_border: Share = 0.5
    """Share of the upper border that must have been filmed for this check."""
    plain_tolerance: Share = 2.5 / 255
    """Largest deviation from that color."""
    still: Rate = 4.0 / 255
    """Color change between frames below which a pixel keeps part of its previous coverage."""
    keep: Share = 0.5
    """Share of the previous frame's coverage kept where nothing moved."""


@dataclass(frozen=True)
class MatteCheckConfig:
    """Signs that the mattes of a video are wrong."""

    max_top: Share = 0.25
    """Share of the filmed upper border up to which it may be hair: curls that touch it cover 0.16 in the median frame, a wall 0.31 and
    more."""
    top_height: Share = 0.012
    """Height of that border, shares of the picture's side."""
    max_jump: Rate = 0.25
    """Share of the person's mean area by which it may change from one frame to the next; a dancer's does by 0.13 at 15 frames a second."""


@dataclass(frozen=True)
class QualityConfig:
    """When a fit counts as failed: frames beyond a bound are left out, and videos with too many of them are refused."""

    frame_error: Share = 0.05
    """Median distance of a frame's landmarks from the fitted head, in widths of the face; turned and speaking faces have up to 0.02."""
    video_error: Share = 0.025
    """The same as the median over a video's frames; well tracked videos have 0.003 to 0.01."""
    max_flagged: Share = 0.3
    """Share of the frames that may fail."""
    distance_range: tuple[Rate, Rate] = (0.08, 30.0)
    """Least and largest distance of a head, meters."""
    turn_rate: Rate = 20.0
    """Fastest turn of a head, radians a second."""
    turn_slack: Rate = 0.25
    """Turn from frame to frame that is always allowed, radians."""
    way_rate: Rate = 5.0
    """Fastest motion of a head, in its distances from the camera a second."""
    way_slack: Rate = 0.15
    """The same from frame to frame that is always allowed."""
    color: Rate = 0.15
    """Root mean square difference of the face's color from the rest of the video, colors in [0, 1]; 0.02 to 0.05 are usual."""
    outside: Share = 0.35
    """Share of the visible face that may lie outside the person's outline."""


@dataclass(frozen=True)
class HeadMaskConfig:
    """Where the head ends: at a plane under the chin that rises towards the shoulders."""

    grid: Pixels = 256
    """Pixels a side at which regions are rendered; they are blurred and enlarged afterwards."""
    below_chin: Rate = 0.010
    """Distance of the neck plane below the chin, meters."""
    tilt: Weight = 0.25
    """Rise of the neck plane per meter towards the back of the head."""
    half_width: Rate = 0.045
    """Distance from the middle beyond which the border rises, because shoulders rise there and there is little hair, meters."""
    shoulder_rise: Weight = 3.0
    """Slope of that rise."""
    shoulder_top: Weight = 0.065
    """Height at which it ends, which lies under the ears, meters."""
    softness: Rate = 0.004
    """Distance over which pixels beside the mesh fade at the neck plane, meters."""
    edge: Rate = 1.5
    """Blur of the border between head and neck, pixels of the grid."""


@dataclass(frozen=True)
class TorsoConfig:
    """Deviations and steps of the torso's fit below a head that is already solved."""

    color: PhotometricConfig = field(
        default_factory=lambda: PhotometricConfig(color=0.04, robust=3.0, rounds=5, texture_frames=60, texture_passes=1, min_facing=0.1)
    )
    """Measurement of the clothes' colors; its settings of landmarks, expressions, hair and video are not used."""
    outline: SilhouetteConfig = field(default_factory=lambda: SilhouetteConfig(pixels=0.75, max_distance=10.0, unknown_margin=9))
    """Measurement of the shoulders' outline; pixels are those of the small copies."""
    outline_grid: Texels = 192
    """Texels a side of the grid from which the outline's points are taken: those of a coarse one lie inside the mesh's own outline."""
    coarse_pixels: Rate = 4.0
    """As `outline.pixels` while the torso is still far from where it belongs."""
    coarse_robust: Rate = 12.0
    """As `outline.robust` then, when all of the outline may be far off."""
    coarse_distance: Rate = 28.0
    """As `outline.max_distance` then."""
    coarse_steps: Count = 6
    """Gauss-Newton steps then, on mattes of half the side."""
    shape_pixels: Rate = 1.5
    """As `outline.pixels` while the torso's shape is solved; clothes differ from usual ones by this much."""
    shape_independent: Positive = 12
    """Number of independent frames that all frames count as then, because clothes differ alike in all of them."""
    shape_steps: Count = 4
    """Gauss-Newton steps with the torso's shape, on the outline."""
    shape_frames: Positive = 60
    """Training frames from which the shape is solved."""
    shape: Rate = 1.0
    """Deviation of the torso's own components."""
    max_outline_normal: Share = 0.6
    """Largest front or back component of the normal of a point that may be on the outline."""
    cut_margin: Rate = 0.03
    """Height above the lowest point of the mesh from which points may be on the outline, meters."""
    hidden_side: Pixels = 96
    """Side of the masks in which the head hides the torso, pixels."""
    hidden_margin: Count = 2
    """Pixels by which these masks are widened: hair and the tracker's error."""
    min_seen: Share = 0.02
    """Share of the torso's front below which the user is warned that the video hardly shows it."""
    max_turn: Annotated[float, Range(0, 180)] = 60.0
    """Turn of the torso against the head beyond which the user is warned, degrees."""
    neck: Rate = 0.015
    """Deviation of the joint between neck and skull from where the torso's pose puts it, meters."""
    relative_turn: tuple[Rate, Rate, Rate] = (15.0, 25.0, 10.0)
    """Deviations of the head's turn against the torso: nod, turn aside, tilt, degrees."""
    sway_turn: tuple[Rate, Rate, Rate] = (8.0, 8.0, 8.0)
    """Deviations of the torso's turn from its mean over the video: nod, turn aside, tilt, degrees."""
    sway: Rate = 0.02
    """Deviation of the neck's base from its mean over the video, meters."""
    video_turn: Rate = 4.0
    """Deviation of that mean from the mean head's turn, degrees."""
    video: Rate = 0.02
    """Deviation of that mean from where the mean head puts the neck's base, meters."""
    change: Rate = 0.004
    """Deviation of the neck's base between frames at 30 fps, meters."""
    change_turn: Rate = 0.8
    """Deviation of the torso's turn between frames at 30 fps, degrees."""


@dataclass(frozen=True)
class PhotoConfig:
    """Recipe of the fit to one photo."""

    resolution: Pixels = 512
    """Side of the head crop, pixels."""
    window_scales: tuple[Annotated[float, Range(0.2, 5)], ...] = (1.0, 0.8, 1.25)
    """Windows about the head, in sides of the crop, whose landmarks are averaged: the detector's errors differ between windows."""
    fit: FitConfig = field(default_factory=lambda: FitConfig(distance=None, focal_deviation=0.15))
    silhouette: SilhouetteConfig = field(default_factory=SilhouetteConfig)
    silhouette_side: Pixels = 256
    """Side of the matte on which the silhouette is measured, pixels."""
    silhouette_steps: Count = 4
    """Gauss-Newton steps with the silhouette; 0 leaves it out."""
    point_grid: Texels = 64
    """Texels a side of the grid from which the silhouette's surface points are taken."""
    stated_focal_deviation: Rate = 0.05
    """Deviation of the logarithm of a focal length that the camera states."""
    person_window: Annotated[float, Range(1, 4)] = 1.6
    """Largest side of the window with neck and torso, in sides of the head crop."""
    person_small: Pixels = 192
    """Side of the small copy of that window in which the torso is found, pixels."""
    torso: TorsoConfig = field(default_factory=lambda: TorsoConfig(color=PhotometricConfig(rounds=0), video_turn=20.0, min_seen=0.0))
    """Fit of the torso; a single photo gives no colors to follow, and its head may be turned."""
    max_turn: Annotated[float, Range(0, 90)] = 62.0
    """Turn of the head out of the camera's axis up to which both eyes are seen, degrees; a photo beyond is refused."""
    max_beyond_border: Share = 0.04
    """Share of the face's width by which its rim may lie outside the picture; landmarks there are guesses."""
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    matte: MatteConfig = field(default_factory=MatteConfig)
    masks: HeadMaskConfig = field(default_factory=HeadMaskConfig)


@dataclass(frozen=True)
class LiveConfig:
    """How a live face is tracked."""

    calibration_frames: Positive = 24
    """Frames at the start, with a relaxed face, from which identity, focal length and neutral face are taken."""
    window_frames: Annotated[int, Range(2)] = 3
    """Frames solved together, of which only the last is new, so that changes over time are limited as in a video."""
    steps: Annotated[int, Range(1, 1000)] = 2
    """Gauss-Newton steps a frame, from where the face was a frame ago."""
    patience: Rate = 10.0
    """Seconds to wait for a face at the start."""
    jump: Rate = 0.25
    """Shift of the face between two frames, in face widths, beyond which its pose is searched again."""
    read_frames: Positive = 4
    """Frames at the start from which the reader is adapted to the camera, if the avatar's own person is read."""
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True)
class TrackConfig:
    """Recipe of the tracker."""

    head: str = "anny"
    """Head model."""
    resolution: Pixels = 512
    """Side of the stored head crop, pixels."""
    split: Literal["tail", "blocks"] = "tail"
    """Test frames: the last 20 %, or every fifth block of 16 frames."""
    max_frames: Positive | None = None
    """Read only so many frames."""
    closed_form_matte: bool = False
    """Slow closed-form matting (needs pymatting) instead of the one at video rate."""
    fit: FitConfig = field(default_factory=FitConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    matte: MatteConfig = field(default_factory=MatteConfig)
    matte_check: MatteCheckConfig = field(default_factory=MatteCheckConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    masks: HeadMaskConfig = field(default_factory=HeadMaskConfig)
    person_window: Annotated[float, Range(1, 4)] = 1.6
    """Largest side of the stored window with neck and torso, in sides of the head crop."""
    person_small: Pixels = 192
    """Side of the small copies of that window from which the torso is tracked, pixels."""
    torso: TorsoConfig = field(default_factory=TorsoConfig)

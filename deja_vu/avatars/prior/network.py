"""What was learned from many people: a network that corrects a start lifted from a few photos of one more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Literal

import dacite
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deja_vu.avatars.gaussian.avatar import initial_map
from deja_vu.avatars.prior.atlas import PHOTO_CHANNELS, SHARED_CHANNELS, Atlas, Lifted, load_atlas
from deja_vu.core.batch import Batch
from deja_vu.core.conventions import SH_C0
from deja_vu.core.errors import FormatError, MissingAssetError, OutputError
from deja_vu.core.gaussians import CHANNELS, NUM_CHANNELS
from deja_vu.core.image import over
from deja_vu.nets.image_to_uv import ImageToUV
from deja_vu.nets.uv_unet import UVNet, UVNetConfig

FORMAT, FORMAT_VERSION = "deja-vu prior", 1
SHIPPED = "prior.safetensors"
PICTURE_CHANNELS = 4
BACK, SIDE = (-0.7, -0.35), (-0.2, 0.2)
"""Forward component of the neutral head's normals, between which what no portrait shows from the front gives way to what one does."""
STRAYING = 0.1 / SH_C0
"""How far, in spherical-harmonic coefficients, the network may move the color of hair beyond the sides: a tenth of the range."""


@dataclass(frozen=True)
class PriorConfig:
    """Kind and size of the network."""

    head: str = "anny"
    """Head model."""
    uv_size: int = 256
    """Texels a side of the map."""
    architecture: Literal["evidence", "image"] = "evidence"
    """A U-Net on the texels' evidence, on top of the lifted start; or the paper's network from picture to map, on top of a plain head."""
    network: UVNetConfig = field(default_factory=UVNetConfig)
    """Sizes of the U-Net; the paper's network has none to choose."""
    picture: int = 128
    """Side to which the head crop is reduced, pixels; the paper's network works on pictures of the map's size."""


class HeadPrior(nn.Module):
    """Corrections of lifted starts, in units of `deja_vu.avatars.gaussian.avatar.GAINS`."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.atlas: Atlas = load_atlas(config.head, config.uv_size)
        self.net: UVNet | ImageToUV
        if config.architecture == "evidence":
            shape = CHANNELS["color"].start
            self.net = UVNet(PHOTO_CHANNELS, SHARED_CHANNELS, PICTURE_CHANNELS, (shape, NUM_CHANNELS - shape), config.network)
        else:
            self.net = ImageToUV()

    def begin(self, photos: Batch) -> Lifted:
        """What the network corrects: a lifted start, or for the paper's network a plain head with the same evidence.

        Args:
            photos: N photos of one person.
        """
        lifted = self.atlas.lift(photos)
        if self.config.architecture == "evidence":
            return lifted
        return replace(lifted, base=initial_map(self.atlas.rest(lifted.shape), self.atlas.layout))

    def pictures(self, photos: Batch) -> Float[Tensor, "N 4 h h"]:
        """Head crops over grey with their coverage, as the network takes them: the paper's sees white instead."""
        paper = self.config.architecture == "image"
        side = self.config.uv_size if paper else self.config.picture
        crop = torch.cat([over(photos.image, photos.head, 1.0 if paper else 0.5), photos.head], -1).movedim(-1, 1)
        return interpolate(crop, (side, side), mode="bilinear", antialias=True, align_corners=False)

    def forward(self, starts: Sequence[Lifted], pictures: Float[Tensor, "B N 4 h h"]) -> Float[Tensor, "B M 13"]:
        """Corrections of B people's starts, each from N photos.

        Args:
            starts: from `begin`.
            pictures: from `pictures`.
        """
        layout = self.atlas.layout
        if isinstance(self.net, ImageToUV):
            points = torch.stack([layout.scatter(start.shared[:, -3:]) for start in starts]).movedim(-1, 1).to(pictures.device)
            people, photos = pictures.shape[:2]
            offsets = self.net(2 * pictures[:, :, :3].flatten(0, 1) - 1, points.repeat_interleave(photos, 0))
            image = offsets.unflatten(0, (people, photos)).mean(1)
        else:
            evidence, trust, shared = (torch.stack([part for part in parts]) for parts in zip(*map(self._images, starts), strict=True))
            device = pictures.device
            image = self.net(evidence.to(device), trust.to(device), shared.to(device), pictures)
        return image.flatten(2)[..., layout.texels].transpose(1, 2)

    def _images(self, start: Lifted) -> tuple[Tensor, Tensor, Tensor]:
        """Evidence of one start as images [N c s s], [N s s] and [d s s]."""
        layout = self.atlas.layout
        photos = torch.stack([layout.scatter(photo) for photo in start.photos]).movedim(-1, 1)
        trust = torch.stack([layout.scatter(photo[:, None])[..., 0] for photo in start.trust])
        return photos, trust, layout.scatter(start.shared).movedim(-1, 0)

    @torch.no_grad()
    def correct(self, photos: Batch) -> tuple[Lifted, Float[Tensor, "M 13"]]:
        """Start and correction of one person from N photos, a lifted one's correction tempered where nothing held it in training."""
        start = self.begin(photos)
        device = next(self.parameters()).device
        correction = self([start], self.pictures(photos)[None].to(device))[0].cpu()
        return start, self._tempered(correction) if self.config.architecture == "evidence" else correction

    def _tempered(self, correction: Float[Tensor, "M 13"]) -> Float[Tensor, "M 13"]:
        """A correction that leaves hair beyond the sides in the color of hair, and the back of the head in its lifted color.

        From the front, hair at the rim takes the background's color, and the back is free to take the face's, which lies before it.
        """
        atlas, tempered = self.atlas, correction.clone()
        color = correction[:, CHANNELS["color"]]
        most = STRAYING / atlas.gains[CHANNELS["color"]]
        held = color.clamp(-most, most).lerp(color, _ramp(atlas.forward, SIDE)[:, None])
        tempered[:, CHANNELS["color"]] = torch.where(atlas.scalp[:, None], held, color) * _ramp(atlas.forward, BACK)[:, None]
        return tempered


def _ramp(values: Tensor, span: tuple[float, float]) -> Tensor:
    return ((values - span[0]) / (span[1] - span[0])).clamp(0, 1)


def save_prior(prior: HeadPrior, path: Path, provenance: dict[str, str]) -> None:
    """Write a network with its sizes and provenance into one file, in one move; weights in half precision.

    Raises:
        OutputError: it cannot be written.
    """
    header = {"format": FORMAT, "version": str(FORMAT_VERSION), "config": json.dumps(asdict(prior.config))}
    header |= {"uv_hash": prior.atlas.layout.hash, **provenance}
    part = path.with_suffix(".part")
    try:
        save_file({name: value.detach().cpu().half().contiguous() for name, value in prior.state_dict().items()}, part, metadata=header)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path} could not be written ({error}). Make room or choose another --out.") from error


def shipped_chart() -> str | None:
    """Digest of the UV chart for which the network that ships was trained, read from its header alone; None where none ships."""
    with resources.as_file(resources.files("deja_vu.avatars.prior") / "assets" / SHIPPED) as shipped:
        if not shipped.is_file():
            return None
        with safe_open(shipped, framework="pt") as file:
            return file.metadata()["uv_hash"]


def load_prior(path: Path | None = None) -> HeadPrior:
    """Read a network, in evaluation mode.

    Args:
        path: file written by `save_prior`; None takes the one that ships with the package.

    Raises:
        MissingAssetError: none ships with this version.
        FormatError: the file is damaged, of another version, or for another texel chart.
    """
    if path is None:
        with resources.as_file(resources.files("deja_vu.avatars.prior") / "assets" / SHIPPED) as shipped:
            if not shipped.is_file():
                raise MissingAssetError(
                    "No trained network ships with this version. Use --start lifted (or reconstruct --start lifted), "
                    "or train one with `deja-vu generalize` and give it with --prior."
                )
            return load_prior(shipped)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if (header.get("format"), header.get("version")) != (FORMAT, str(FORMAT_VERSION)):
            raise FormatError(f"{path} is no network of this version: its header says {header.get('format')} {header.get('version')}.")
        config = dacite.from_dict(PriorConfig, json.loads(header["config"]), dacite.Config(strict=True, cast=[tuple]))
        prior = HeadPrior(config)
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError, dacite.DaciteError) as error:
        raise FormatError(f"{path} is damaged or no network's file ({error}).") from error
    if header["uv_hash"] != prior.atlas.layout.hash:
        raise FormatError(f"{path} was trained on another UV chart of head '{config.head}'. Train it again with this version.")
    expected = {name: tuple(value.shape) for name, value in prior.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if expected != found or not all(torch.isfinite(value).all() for value in tensors.values()):
        raise FormatError(f"{path}: its tensors do not fit the network that its header describes, or are not finite.")
    prior.load_state_dict(tensors)
    return prior.eval()

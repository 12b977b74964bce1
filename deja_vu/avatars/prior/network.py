"""The network of the prior: it predicts the residual of a head lifted from a few photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path

import dacite
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deja_vu.avatars.gaussian.avatar import init_map
from deja_vu.avatars.prior.atlas import PHOTO_CHANNELS, SHARED_CHANNELS, Atlas, Lifted, load_atlas
from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.core.batch import Batch
from deja_vu.core.conventions import SH_C0
from deja_vu.core.documents import parse_json
from deja_vu.core.errors import FormatError, MissingAssetError
from deja_vu.core.gaussians import CHANNELS, NUM_CHANNELS
from deja_vu.core.image import over
from deja_vu.io.arrays import load_weights, read_weights, write_weights
from deja_vu.nets.image_to_uv import ImageToUV
from deja_vu.nets.uv_unet import UVNet

FORMAT = "deja-vu prior"
"""Mark in the header of every prior's file."""
FORMAT_VERSION = 1
SHIPPED = "prior.safetensors"
PICTURE_CHANNELS = 4


class HeadPrior(nn.Module):
    """Residuals of lifted starts, in units of its config's gains."""

    def __init__(self, config: PriorConfig, atlas: Atlas) -> None:
        """Build the network with random weights.

        Args:
            config: kind and size.
            atlas: of the head and of the map's size that the configuration names.
        """
        super().__init__()
        assert (atlas.head.spec.name, atlas.size) == (config.head, config.uv_size), (config, atlas.head.spec.name, atlas.size)
        self.config, self.atlas, self.layout = config, atlas, atlas.layout
        self.net: UVNet | ImageToUV
        if config.architecture == "evidence":
            shape = CHANNELS["color"].start
            self.net = UVNet(PHOTO_CHANNELS, SHARED_CHANNELS, PICTURE_CHANNELS, (shape, NUM_CHANNELS - shape), config.network)
        else:
            self.net = ImageToUV()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HeadPrior:
        """The table of texels follows the weights to another device; the atlas, which lifts, stays on the host."""
        super()._apply(fn, recurse)
        self.layout = self.layout.to(next(self.parameters()).device)
        return self

    def lift(self, photos: Batch) -> Lifted:
        """Lift the start that the network corrects; for the paper's network a plain head with the same evidence.

        Args:
            photos: N photos of one person.
        """
        lifted = self.atlas.lift(photos)
        if self.config.architecture == "evidence":
            return lifted
        return replace(lifted, base=init_map(self.atlas.rest_surface(lifted.shape), self.atlas.layout, self.atlas.inner))

    def prepare_photos(self, photos: Batch) -> Float[Tensor, "N 4 h h"]:
        """Head crops over gray with their coverage, as the network takes them; over white for the paper's network."""
        paper = self.config.architecture == "image"
        side = self.config.uv_size if paper else self.config.picture
        crop = torch.cat([over(photos.image, photos.head, 1.0 if paper else 0.5), photos.head], -1).movedim(-1, 1)
        return interpolate(crop, (side, side), mode="bilinear", antialias=True, align_corners=False)

    def forward(self, starts: Sequence[Lifted], pictures: Float[Tensor, "B N 4 h h"]) -> Float[Tensor, "B M 13"]:
        """Residuals of B people's starts, each from N photos; all on the network's device.

        Args:
            starts: from `lift`.
            pictures: from `prepare_photos`.
        """
        if isinstance(self.net, ImageToUV):
            points = torch.stack([self.layout.scatter(start.shared[:, -3:]) for start in starts]).movedim(-1, 1)
            people, photos = pictures.shape[:2]
            offsets = self.net(2 * pictures[:, :, :3].flatten(0, 1) - 1, points.repeat_interleave(photos, 0))
            image = offsets.unflatten(0, (people, photos)).mean(1)
        else:
            evidence, trust, shared = (torch.stack([part for part in parts]) for parts in zip(*map(self._images, starts), strict=True))
            image = self.net(evidence, trust, shared, pictures)
        return image.flatten(2)[..., self.layout.texels].transpose(1, 2)

    def _images(self, start: Lifted) -> tuple[Tensor, Tensor, Tensor]:
        """Evidence of one start as images [N c s s], [N s s] and [d s s]."""
        layout = self.layout
        photos = torch.stack([layout.scatter(photo) for photo in start.photos]).movedim(-1, 1)
        trust = torch.stack([layout.scatter(photo[:, None])[..., 0] for photo in start.trust])
        return photos, trust, layout.scatter(start.shared).movedim(-1, 0)

    @torch.no_grad()
    def predict(self, photos: Batch) -> tuple[Lifted, Float[Tensor, "M 13"]]:
        """Predict one person from N photos: the start, and its residual, limited where no training photo bounds it; both on the host."""
        start = self.lift(photos)
        device = next(self.parameters()).device
        residual = self([start.to(device)], self.prepare_photos(photos)[None].to(device))[0].cpu()
        return start, self._limit(residual, start.trust.sum(0)) if self.config.architecture == "evidence" else residual

    def _limit(self, residual: Float[Tensor, "M 13"], trust: Float[Tensor, " M"]) -> Float[Tensor, "M 13"]:
        """Limit a residual: hair behind the sides keeps the color of hair, the back of the head its lifted one, and skin stays skin.

        From the front, hair and jaw at the rim take the background's color, or let it through, and the back is free to take the face's,
        which lies before it.

        Args:
            residual: of the network.
            trust: how well the photos show each texel, summed over them.
        """
        atlas, limit, limited = self.atlas, self.config.limit, residual.clone()
        color, opacity = residual[:, CHANNELS["color"]], CHANNELS["opacity_logit"].start
        hair, skin = (shift / SH_C0 / atlas.gains[CHANNELS["color"]] for shift in (limit.hair_shift, limit.skin_shift))
        front, sure = _ramp(atlas.forward, begin=limit.side_begin, end=limit.side_end), _ramp(trust, begin=0.0, end=limit.skin_trust)
        held = torch.where(atlas.scalp[:, None], color.clamp(-hair, hair).lerp(color, front[:, None]), color)
        held = torch.where(atlas.bare[:, None], color.clamp(-skin, skin).lerp(color, sure[:, None]), held)
        limited[:, CHANNELS["color"]] = held * _ramp(atlas.forward, begin=limit.back_begin, end=limit.back_end)[:, None]
        faded = atlas.bare & (residual[:, opacity] < 0)
        limited[:, opacity] = torch.where(faded, residual[:, opacity] * sure, residual[:, opacity])
        return limited


def _ramp(values: Tensor, *, begin: float, end: float) -> Tensor:
    return ((values - begin) / (end - begin)).clamp(0, 1)


def build_prior(config: PriorConfig) -> HeadPrior:
    """A network with random weights, on the atlas of its head."""
    return HeadPrior(config, load_atlas(config.head, config.uv_size, config.lift, config.gains))


def save_prior(prior: HeadPrior, path: Path, provenance: dict[str, str]) -> None:
    """Write a network with its sizes, provenance and digest into one file, in one move; weights in half precision.

    Raises:
        OutputError: it cannot be written.
    """
    header = {"format": FORMAT, "version": str(FORMAT_VERSION), "config": json.dumps(asdict(prior.config))}
    header |= {"uv_hash": prior.atlas.layout.hash, **provenance}
    write_weights(path, {name: value.half() for name, value in prior.state_dict().items()}, header)


def shipped_file() -> Path:
    """Where the network that ships lies, or would."""
    return Path(str(resources.files("deja_vu.avatars.prior") / "assets" / SHIPPED))


def shipped_chart() -> str | None:
    """Digest of the UV chart for which the network that ships was trained, read from its header alone; None where none ships."""
    if not shipped_file().is_file():
        return None
    with safe_open(shipped_file(), framework="pt") as file:
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
        path = shipped_file()
        if not path.is_file():
            raise MissingAssetError(
                "No trained network ships with this version. Use --init lifted, "
                "or train one with `deja-vu generalize` and give it with --prior."
            )
    header, tensors = read_weights(path)
    try:
        if (header.get("format"), header.get("version")) != (FORMAT, str(FORMAT_VERSION)):
            raise FormatError(f"{path} is not a network of this version: its header says {header.get('format')} {header.get('version')}.")
        described = parse_json(header["config"], f"{path}: its config")
        config = dacite.from_dict(PriorConfig, described, dacite.Config(strict=True, cast=[tuple]))
        prior = build_prior(config)
    except (KeyError, TypeError, dacite.DaciteError) as error:
        raise FormatError(f"{path} is damaged or not a network file ({error}).") from error
    if header["uv_hash"] != prior.atlas.layout.hash:
        raise FormatError(f"{path} was trained on another UV chart of head '{config.head}'. Train it again with this version.")
    load_weights(prior, tensors, path)
    return prior.eval()

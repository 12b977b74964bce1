"""Gauss-Newton normal equations of a whole video: a block a frame, coupled in time and by what the video shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import LinAlgError, solveh_banded
from torch import Tensor

from deja_vu.core.errors import DivergedError

CPU = torch.device("cpu")


@dataclass
class NormalEquations:
    """Sums of J'WJ and J'Wr over all terms; frames' unknowns (D each) and, optionally, the video's (C)."""

    frame: Float[Tensor, "T D D"]
    frame_rhs: Float[Tensor, "T D"]
    cross: Float[Tensor, "T D C"]
    video: Float[Tensor, "C C"]
    video_rhs: Float[Tensor, " C"]

    @staticmethod
    def zeros(frames: int, size: int, shared: int, device: torch.device = CPU) -> NormalEquations:
        """Empty system; `shared` is 0 where identity and focal length are fixed."""
        z = partial(torch.zeros, device=device)
        return NormalEquations(z(frames, size, size), z(frames, size), z(frames, size, shared), z(shared, shared), z(shared))

    @property
    def num_shared(self) -> int:
        """How many unknowns the frames share; 0 where identity and focal length are fixed."""
        return len(self.video_rhs)

    def add(self, frames: slice, frame_jacobian: Tensor, video_jacobian: Tensor | None, residual: Tensor, weight: Tensor) -> None:
        """Add whitened residual rows of some frames, in place.

        Args:
            frames: which frames.
            frame_jacobian: derivatives [B, R, D].
            video_jacobian: derivatives [B, R, C], or None where nothing is shared.
            residual: [B, R].
            weight: squared inverse deviation of each row [B, R].
        """
        root = weight.sqrt()[..., None]
        rows, value = frame_jacobian * root, residual[..., None] * root
        self.frame[frames] += rows.transpose(1, 2) @ rows
        self.frame_rhs[frames] -= (rows.transpose(1, 2) @ value)[..., 0]
        if video_jacobian is not None:
            common = video_jacobian * root
            self.cross[frames] += rows.transpose(1, 2) @ common
            flat = common.flatten(0, 1)
            self.video += flat.T @ flat
            self.video_rhs -= flat.T @ value.flatten()

    def add_prior(self, precision: Float[Tensor, "*t D"], offset: Float[Tensor, "T D"]) -> None:
        """Add independent Gaussian priors on every frame: `offset` is the present value minus the prior's mean."""
        self.frame.diagonal(dim1=1, dim2=2).add_(precision)
        self.frame_rhs -= precision * offset

    def add_video_prior(self, precision: Float[Tensor, " C"], offset: Float[Tensor, " C"]) -> None:
        """Add independent Gaussian priors on the shared unknowns."""
        self.video.diagonal().add_(precision)
        self.video_rhs -= precision * offset

    def solve(
        self, coupling: Float[Tensor, "T1 D"], difference: Float[Tensor, "T1 D"], damping: float = 0.0
    ) -> tuple[Float[Tensor, "T D"], Float[Tensor, " C"]]:
        """Exact minimizer with a first-difference penalty between neighboring frames (no batch borders).

        The frames' part is one symmetric banded system of bandwidth D; the shared part is eliminated by its Schur complement. It is solved
        on the host, wherever the sums were made.

        Args:
            coupling: precision of each unknown's change from frame t to t + 1; T1 = T - 1.
            difference: present value of that change.
            damping: added to every diagonal entry, as a share of it (Levenberg and Marquardt); 0 is the Gauss-Newton step.

        Returns:
            Step of every frame's unknowns and of the shared ones.

        Raises:
            DivergedError: the system is not positive definite or not finite.
        """
        device = self.frame.device
        if device != CPU:
            on_host = replace(self, **{name: value.cpu() for name, value in vars(self).items()})
            step, shared = on_host.solve(coupling.cpu(), difference.cpu(), damping)
            return step.to(device), shared.to(device)
        frames, size = self.frame_rhs.shape
        blocks = self.frame.double()
        rhs = self.frame_rhs.double().clone()
        coupling, difference = coupling.double(), difference.double()
        diagonal = blocks.diagonal(dim1=1, dim2=2)
        diagonal[:-1] += coupling
        diagonal[1:] += coupling
        diagonal *= 1 + damping
        rhs[:-1] += coupling * difference
        rhs[1:] -= coupling * difference
        band = np.zeros((size + 1, frames * size))
        for k in range(size):
            entries = np.zeros((frames, size))
            entries[:, : size - k] = blocks.diagonal(offset=-k, dim1=1, dim2=2).numpy()
            band[k] = entries.ravel()
        band[size, : (frames - 1) * size] = -coupling.numpy().ravel()
        columns = torch.cat([rhs[..., None], self.cross.double()], -1).flatten(0, 1).numpy()
        try:
            solved = torch.from_numpy(solveh_banded(band, columns, lower=True, overwrite_ab=True, check_finite=True))
        except (LinAlgError, ValueError) as error:
            raise DivergedError(
                f"The fit of the head's pose has no finite solution any more ({error}). Film the face larger and sharper."
            ) from error
        if self.num_shared == 0:
            return solved[:, 0].unflatten(0, (frames, size)).float(), self.video_rhs
        cross = self.cross.double().flatten(0, 1)
        video = self.video.double()
        schur = video + damping * video.diagonal().diag() - cross.T @ solved[:, 1:]
        step = torch.linalg.solve(schur, self.video_rhs.double() - cross.T @ solved[:, 0])
        frame_step = solved[:, 0] - solved[:, 1:] @ step
        return frame_step.unflatten(0, (frames, size)).float(), step.float()

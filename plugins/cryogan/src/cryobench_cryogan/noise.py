"""Noise of simulated images: drawn from the spectrum of the dataset's noise patches, or these patches themselves."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from cryobench.physics.noise import colour, turn
from cryobench.reconstruct.contract import Observed
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.prepare import standardise


@final
class Noise:
    """Draws noise images and, together with them, which particle's CTF an image is formed with.

    Args:
        observed: whose noise patches are used.
        kind: ``"spectrum"``, ``"patches"`` or ``"paired"``.
        normalise: whether each patch is brought to mean 0 and variance 1.
        data_scale: by which the data are divided.
        device: of what is drawn.
    """

    def __init__(self, observed: Observed, kind: str, normalise: bool, data_scale: float, device: torch.device) -> None:
        self.device, self.particles = device, len(observed)
        self.power = observed.noise_power.to(device) / data_scale**2
        self.box = observed.box
        patches = observed.noise_patches
        self.partners = find_partners(observed, device) if kind == "paired" else None
        self.kind = "patches" if kind == "paired" and self.partners is None else kind
        """As asked for, but for ``"paired"`` where no patch is from the micrograph of a particle."""
        if self.partners is not None:
            patches = patches[self.partners.patches]
        if self.kind != "spectrum":
            patches = patches.to(device)
            self.patches = standardise(patches) if normalise else patches / data_scale

    def draw(self, count: int, generator: torch.Generator, team: Team) -> tuple[Tensor, Tensor]:
        """Rows of the CTF table ``(count,)`` and noise images ``(count, y, x)``, of which this member keeps its share.

        Everything random is drawn for the whole batch, so that it does not depend on how many share it.
        """
        share = team.share(count)
        if self.partners is not None:
            patch = self._choose(len(self.patches), count, generator)
            uniform = torch.rand(count, generator=generator, device=self.device)
            return self.partners.choose(patch, uniform)[share], self.patches[patch[share]]
        rows = self._choose(self.particles, count, generator)
        if self.kind == "spectrum":
            white = torch.randn(count, self.box, self.box, generator=generator, device=self.device)
            return rows[share], colour(white[share], self.power)
        patch = self._choose(len(self.patches), count, generator)
        turns = self._choose(8, count, generator)
        return rows[share], turn(self.patches[patch[share]], turns[share])

    def _choose(self, among: int, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(among, (count,), generator=generator, device=self.device)


@final
class Partners:
    """Which particles come from the micrograph of each noise patch.

    Args:
        particle_micrographs: ``(particle,)``.
        patch_micrographs: ``(patch,)``.
        device: of the tables.

    Attributes:
        patches: those that have a partner; all others are left out.
    """

    def __init__(self, particle_micrographs: Tensor, patch_micrographs: Tensor, device: torch.device) -> None:
        sorted_micrographs, order = torch.sort(particle_micrographs, stable=True)
        first = torch.searchsorted(sorted_micrographs, patch_micrographs)
        last = torch.searchsorted(sorted_micrographs, patch_micrographs, right=True)
        self.patches = torch.nonzero(last > first).squeeze(-1)
        self._order = order.to(device)
        self._first = first[self.patches].to(device)
        self._count = (last - first)[self.patches].to(device)

    def choose(self, patch: Tensor, uniform: Tensor) -> Tensor:
        """A particle from the micrograph of each ``patch`` (an index into :attr:`patches`), picked by ``uniform`` in [0, 1)."""
        count = self._count[patch]
        return self._order[self._first[patch] + (uniform * count).long().clamp(max=count - 1)]


def find_partners(observed: Observed, device: torch.device) -> Partners | None:
    """Pairs of noise patches and particles by micrograph; None where no patch is from the micrograph of a particle."""
    particles, patches = (torch.as_tensor(table).long() for table in (observed.micrographs, observed.patch_micrographs))
    patches = torch.where(patches < 0, -1 - particles.abs().max(), patches)  # generated noise is of no micrograph
    found = Partners(particles, patches, device)
    return found if len(found.patches) else None

"""Reconstruction in Fourier space: insert, weight, filter, transform back.

Every image ``i`` says ``F_i(k) = CTF_i(k) V(R_i^T k) + noise`` on its central slice. With the noise's variance per
coefficient ``sigma^2`` and the signal's expected power ``tau^2``, the most probable ``V`` is

    V = sum_i S_i^T [CTF_i F_i / sigma^2] / (sum_i S_i^T [CTF_i^2 / sigma^2] + 1 / tau^2)

(Scheres 2012, J. Mol. Biol. 415, eq. 8), where ``S_i^T`` is the adjoint of the library's own slicing. ``tau^2`` is the
cross-power, shell by shell, of the sums over the even and the odd particles: their noise is independent, so that it
needs no guess of the noise that is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor

from cryobench.dataset.view import Batch, Observed
from cryobench.physics.fourier import crop, shift_phases, transform_images
from cryobench.physics.grids import coordinates, half_frequencies, half_shells, radius
from cryobench.physics.noise import radial_power
from cryobench.physics.project import VolumeSpectrum, slice_spectrum
from cryobench.physics.symmetry import rotate_volume, symmetry_rotations
from cryobench.types import Curve, Images, Volume

PADDING: Final = 2
NOISE_FLOOR: Final = 1e-4
"""Of the images' own power: what noise is taken to be where the dataset has none."""
SIGNAL_FLOOR: Final = 1e-3
"""Of the noise left in a shell: the least signal assumed there. It scales the shell as a whole and leaves its phases."""


@final
@dataclass
class FourierAccumulator:
    """Sums over the images inserted so far, on the padded half-space grid of :class:`VolumeSpectrum`.

    Attributes:
        box: pixels of the images and voxels of the volume.
        voxel_size: angstrom.
        noise_variance: of every image coefficient, ``(box, box // 2 + 1)``.
        data: ``(2, z, y, x, 2)`` float64: sums of even and of odd particles, real and imaginary part.
        weight: ``(2, z, y, x)`` float64.
    """

    box: int
    voxel_size: float
    noise_variance: Tensor
    data: Tensor
    weight: Tensor

    @classmethod
    def prepare(cls, observed: Observed, sample: Images, device: torch.device) -> FourierAccumulator:
        """Empty sums for a half-set; ``sample`` are some of its images, from which the floor of the noise is taken."""
        box = observed.box
        power = torch.maximum(observed.noise_power.to(sample), NOISE_FLOOR * radial_power(sample)).to(device)
        shells = half_shells(box, power).clamp(max=box // 2)
        reach = PADDING * box // 2
        shape = (2, 2 * reach + 1, 2 * reach + 1, reach + 1)
        zeros = torch.zeros(shape, dtype=torch.float64, device=device)
        return cls(box, observed.voxel_size, power[shells] * box**2, zeros.new_zeros(*shape, 2), zeros)

    def insert(self, batch: Batch, first: int) -> None:
        """Add images; ``first`` is the number of the first one, which tells even from odd."""
        variance = self.noise_variance
        for parity in (0, 1):
            chosen = slice((first + parity) % 2, None, 2)
            images, ctf = batch.images[chosen].to(variance), batch.ctf[chosen].to(variance)
            if len(images) == 0:
                continue
            assert batch.rotations is not None
            assert batch.shifts is not None
            transfer = ctf.evaluate(self.box, self.voxel_size)
            kx, _ = half_frequencies(self.box, variance)
            # on the column kx = 0 both partners of a Friedel pair are there, elsewhere one stands for two
            scaled = transfer / variance * torch.where(kx == 0, 0.5, 1.0)
            unshift = shift_phases(-batch.shifts[chosen].to(variance), self.box, self.voxel_size)
            data, weight = self._backproject(
                batch.rotations[chosen].to(variance), transform_images(images) * unshift * scaled, scaled * transfer
            )
            self.data[parity] += data
            self.weight[parity] += weight[..., 0]

    def _backproject(self, rotations: Tensor, spectra: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Adjoint of slicing, applied to spectra and to weights: the slicing is linear, so its gradient is its adjoint."""
        with torch.enable_grad():
            zero = self.noise_variance.new_zeros(self.data.shape[1:], requires_grad=True)
            slices = slice_spectrum(VolumeSpectrum(zero, PADDING * self.box // 2, PADDING), rotations, self.box)
            (data,) = torch.autograd.grad(slices, zero, spectra, retain_graph=True)
            (weight,) = torch.autograd.grad(slices, zero, weights.to(spectra.dtype))
        return data, weight

    def solve(self, symmetry: str, wiener: float) -> Volume:
        """The volume ``(box, box, box)``, float32, from the images so far.

        Args:
            symmetry: point group whose copies are summed.
            wiener: factor of the term ``1 / tau^2``.
        """
        data, weight = (_complete(s) for s in (torch.view_as_complex(self.data), self.weight))
        if symmetry != "C1":
            rotations = symmetry_rotations(symmetry)
            data = torch.stack([_copies(d.real, rotations) + 1j * _copies(d.imag, rotations) for d in data])
            weight = torch.stack([_copies(w, rotations) for w in weight])
        distance = radius(data.shape[-1], 3, weight)
        shells = (distance / PADDING).round().long().clamp(max=self.box // 2)
        signal = _signal_power(data, weight, shells)
        inside = distance < PADDING * self.box / 2
        total = weight.sum(0)
        # a padded voxel holds 1 / padding^3 of the information that a voxel of the volume's own spectrum does
        spectrum = data.sum(0) / (total + wiener / (PADDING**3 * signal[shells])) * inside
        return self._invert(spectrum).float()

    def _invert(self, spectrum: Tensor) -> Volume:
        """Transform a centred spectrum back, cut the padding away and undo what the trilinear kernel did to it."""
        padded = PADDING * self.box
        # the grid runs from -reach to reach, both of them the Nyquist frequency of the padded box: one plane is one too many
        shifted = torch.fft.ifftshift(spectrum[:-1, :-1, :-1])
        volume = crop(torch.fft.fftshift(torch.fft.ifftn(shifted).real), self.box, 3) / self.voxel_size
        kernel = torch.sinc(coordinates(self.box, volume) / padded) ** 2
        return volume / (kernel[:, None, None] * kernel[:, None] * kernel)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"data": self.data, "weight": self.weight}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up the sums of :meth:`state`."""
        self.data, self.weight = state["data"].clone(), state["weight"].clone()


def _complete(half: Tensor) -> Tensor:
    """The whole centred grid from its half-space, Friedel partners filled in. ``(2, z, y, x)`` to an odd cube."""
    mirrored = half.flip(-3, -2, -1).conj()
    # of samples with 0 < x < 1 the partner falls between columns -1 and 0, too
    middle = half[..., :1] + mirrored[..., -1:]
    return torch.cat([mirrored[..., :-1], middle, half[..., 1:]], -1)


def _copies(volume: Tensor, rotations: Tensor) -> Tensor:
    """Sum of the rotated copies of a centred grid."""
    return sum((rotate_volume(volume, r) for r in rotations), torch.zeros_like(volume))


def _signal_power(data: Tensor, weight: Tensor, shells: Tensor) -> Curve:
    """``tau^2`` of every shell: cross-power of the two sums, over the product of their weights."""
    count = int(shells.max()) + 1

    def over_shells(values: Tensor) -> Curve:
        return values.new_zeros(count).index_add(0, shells.flatten(), values.flatten())

    cross = over_shells((data[0] * data[1].conj()).real)
    both = over_shells(weight[0] * weight[1])
    least = SIGNAL_FLOOR * over_shells(weight.sum(0)) / over_shells(weight.sum(0).square()).clamp(min=1e-300)
    return torch.maximum(cross / both.clamp(min=1e-300), least)

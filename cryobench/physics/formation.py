"""The compiled way from a volume's spectrum to images and back: single precision, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from cryobench.conventions import origin
from cryobench.physics import kernels
from cryobench.physics.fourier import crop, pad
from cryobench.physics.padded import zeros

BLOCK: Final = 16
"""Images formed together: their spectra stay in a core's cache from the gather to the transform."""


def serves(values: Tensor, *geometry: Tensor | None) -> bool:
    """Whether the compiled kernels do this work: single precision, on the CPU, and no gradient wanted but that of ``values``.

    The one place that chooses; anything else goes the plain PyTorch way, to the same numbers but for rounding.
    """
    wanted = torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in geometry)
    return values.device.type == "cpu" and values.dtype == torch.float32 and not wanted


@final
@dataclass(frozen=True)
class Formation:
    """Slices of a spectrum table times transfer and shift, for one batch of images: linear in the table.

    Attributes:
        reach: of the table, see :class:`~cryobench.physics.project.VolumeSpectrum`.
        step: samples of the table per frequency of the slices.
        box: pixels of the slices' images.
        rotations: ``(image, 3, 3)``.
        cycles: ``(image, 2)`` float64, shifts over the length of the box; None for none.
        coefficients: ``(image, 6)`` float64 of the CTFs, see :meth:`~cryobench.physics.ctf.ContrastTransfer.coefficients`;
            None for none.
        transfer: ``(box, box // 2 + 1)``, of the detector; None for none.
    """

    reach: int
    step: float
    box: int
    rotations: Tensor
    cycles: Tensor | None = None
    coefficients: Tensor | None = None
    transfer: Tensor | None = None

    def form_spectra(self, table: Tensor) -> Tensor:
        """``(image, box, box // 2 + 1, 2)`` from a table ``(z, y, x, 2)``."""
        spectra = torch.zeros(len(self.rotations), self.box, self.box // 2 + 1, 2)
        for block in self._blocks():
            self._slice(table, block, 0.0, spectra[block])
        return spectra

    def collect_spectra(self, spectra: Tensor) -> Tensor:
        """Transpose of :meth:`form_spectra`."""
        table = self._empty_table()
        for block in self._blocks():
            self._insert(spectra[block].clone(memory_format=torch.contiguous_format), block, 0.0, 1.0, table)
        return table

    def form_images(self, table: Tensor, image_box: int) -> Tensor:
        """Images ``(image, y, x)``, cut to ``image_box`` pixels about their origin."""
        images = table.new_empty(len(self.rotations), image_box, image_box)
        for block in self._blocks():
            spectra = torch.zeros(len(images[block]), self.box, self.box // 2 + 1, 2)
            self._slice(table, block, self._centre, spectra)
            slices = torch.view_as_complex(spectra)
            images[block] = crop(torch.fft.irfft2(slices, s=(self.box, self.box)), image_box, 2)
        return images

    def collect_images(self, images: Tensor) -> Tensor:
        """Transpose of :meth:`form_images`."""
        table = self._empty_table()
        for block in self._blocks():
            spectra = torch.fft.rfft2(pad(images[block], self.box, 2), norm="forward")
            # a coefficient stands for its Friedel partner, too, except on the column kx = 0, where both are there
            spectra[..., 0] *= 0.5
            self._insert(torch.view_as_real(spectra.contiguous()), block, self._centre, 2.0, table)
        return table

    def insert_images(self, images: Tensor, precision: Tensor, sums: Tensor) -> None:
        """Add images to ``sums``, see :meth:`~cryobench.physics.imaging.ImagingOperator.insert`."""
        flat = sums.view(-1).numpy()
        for block in self._blocks():
            spectra = torch.view_as_real(torch.fft.rfft2(images[block]).contiguous())
            transfer = self._transfer(block)
            scaled = transfer * precision
            self._modulate(spectra, scaled, block, self._centre, 1.0, -1.0)
            rotations, weights = self._rotations(block), scaled.mul_(transfer)
            kernels.scatter_weighted(spectra.numpy(), weights.numpy(), self.step, rotations.numpy(), flat, self.reach)

    @property
    def _centre(self) -> float:
        """Shift that takes the origin from an image's corner, where the FFT has it, to its middle."""
        return origin(self.box) / self.box

    def _blocks(self) -> Iterator[slice]:
        return (slice(start, start + BLOCK) for start in range(0, len(self.rotations), BLOCK))

    def _empty_table(self) -> Tensor:
        rows = 2 * self.reach + 1
        return zeros((rows, rows, self.reach + 1, 2), torch.empty(0))

    def _slice(self, table: Tensor, block: slice, centre: float, spectra: Tensor) -> None:
        rotations, flat = self._rotations(block), table.detach().contiguous().view(-1)
        kernels.gather_slices(flat.numpy(), self.reach, self.step, rotations.numpy(), spectra.numpy())
        self._modulate(spectra, self._transfer(block), block, centre, 1.0, 1.0)

    def _insert(self, spectra: Tensor, block: slice, centre: float, gain: float, table: Tensor) -> None:
        self._modulate(spectra, self._transfer(block), block, centre, gain, -1.0)
        rotations, flat = self._rotations(block), table.view(-1)
        given = spectra.numpy(), kernels.NO_WEIGHTS, self.step, rotations.numpy(), flat.numpy(), self.reach
        kernels.scatter_slices(*given)

    def _rotations(self, block: slice) -> Tensor:
        return self.rotations[block].detach().float().contiguous()

    def _transfer(self, block: slice) -> Tensor:
        """What every frequency of a block's images is multiplied by, but for the shift."""
        shape = len(self.rotations[block]), self.box, self.box // 2 + 1
        if self.coefficients is None:
            transfer = torch.ones(shape)
        else:
            transfer = torch.empty(shape)
            kernels.evaluate_transfer(self.coefficients[block].numpy(), transfer.numpy())
        return transfer if self.transfer is None else transfer.mul_(self.transfer)

    def _modulate(
        self, spectra: Tensor, transfer: Tensor, block: slice, centre: float, gain: float, direction: float
    ) -> None:
        cycles = torch.full((len(spectra), 2), centre, dtype=torch.float64)
        if self.cycles is not None:
            cycles += self.cycles[block]
        kernels.modulate(spectra.numpy(), transfer.numpy(), cycles.numpy(), gain, direction)

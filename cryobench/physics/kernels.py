"""Compiled loops behind imaging on the CPU: central slices, their exact transpose, CTFs and shifts.

Single precision over interleaved complex numbers, on one thread with the interpreter's lock released, so that callers may
run them from a pool of threads. Nothing is compiled when this module is imported: numba compiles a function when it is
first called and keeps the result on disk. Arrays must be contiguous.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])
Single: TypeAlias = np.float32
Singles: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]

FLAGS = {"contract", "nsz"}
"""Fused multiply-add is allowed; nothing that would change the order of a sum."""
DIGEST = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
"""Of this file."""


def compiled(function: Function) -> Function:
    """Compile ``function`` when it is first called, and keep the result on disk where there is a place for it.

    What is kept is thrown away when the function's own file changes, or this one, whose functions others build upon.
    """
    function = inspect.unwrap(function)  # from the checks of shapes that tests put around every function
    try:
        kept = numba.njit(function, nogil=True, cache=True, error_model="numpy", fastmath=FLAGS)
    except RuntimeError:  # neither beside the module nor in a home directory may anything be written
        return numba.njit(function, nogil=True, error_model="numpy", fastmath=FLAGS)
    # numba looks at the time and size of the function's own file alone, though functions of others are compiled into it; a
    # version of numba that keeps this elsewhere goes on as numba does
    index: Any = getattr(getattr(kept, "_cache", None), "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = (index._source_stamp, DIGEST)
    return kept


@compiled
def row_length(ky: int, box: int) -> int:
    """How many columns ``kx = 0, 1 ...`` of row ``ky`` lie strictly inside the Nyquist disc of ``box`` pixels."""
    left = box * box - 4 * ky * ky
    length = int(np.sqrt(max(left, 0) / 4)) + 1
    while length > 0 and 4 * (length - 1) ** 2 >= left:
        length -= 1
    return length


@compiled
def locate(px: Single, py: Single, pz: Single, reach: int) -> tuple[np.int64, Single, Single, Single, Single]:
    """Where a point of the table's frequencies falls, in the half-space x >= 0: Friedel, ``V(-k) = conj V(k)``.

    Returns:
        Index of its lower corner in the flattened table of complex numbers, never one that lies outside; fractions along
        x, y and z; and the sign of the imaginary part.
    """
    one, half, last = np.float32(1), np.float32(reach), np.int32(reach - 1)
    sign = -one if px < 0 else one
    px, py, pz = sign * px, sign * py + half, sign * pz + half
    ix, iy, iz = min(np.int32(px), last), min(np.int32(py), last + reach), min(np.int32(pz), last + reach)
    ix, iy, iz = max(ix, np.int32(0)), max(iy, np.int32(0)), max(iz, np.int32(0))
    index = (np.int64(iz) * (2 * reach + 1) + iy) * (reach + 1) + ix
    return index, px - np.float32(ix), py - np.float32(iy), pz - np.float32(iz), sign


@compiled
def gather_slices(table: Singles, reach: int, step: float, rotations: Singles, spectra: Singles) -> None:
    """Central slices by trilinear interpolation, into ``spectra``; outside the Nyquist disc nothing is written.

    Args:
        table: ``(2 r + 1, 2 r + 1, r + 1, 2)`` flattened, real and imaginary parts.
        reach: ``r``.
        step: samples of the table per frequency of the slices.
        rotations: ``(image, 3, 3)``.
        spectra: ``(image, box, box // 2 + 1, 2)``, rows in FFT order.
    """
    one, scale, box = np.float32(1), np.float32(step), spectra.shape[1]
    to_y, to_z = np.uint64(2 * (reach + 1)), np.uint64(2 * (reach + 1) * (2 * reach + 1))
    for image in range(rotations.shape[0]):
        ax, ay, az = rotations[image, 0, 0] * scale, rotations[image, 0, 1] * scale, rotations[image, 0, 2] * scale
        bx, by, bz = rotations[image, 1, 0] * scale, rotations[image, 1, 1] * scale, rotations[image, 1, 2] * scale
        for row in range(box):
            ky = row if 2 * row < box else row - box
            y = np.float32(ky)
            for kx in range(row_length(ky, box)):
                x = np.float32(kx)
                index, wx, wy, wz, sign = locate(x * ax + y * bx, x * ay + y * by, x * az + y * bz, reach)
                w00, w01, w10, w11 = (one - wz) * (one - wy), (one - wz) * wy, wz * (one - wy), wz * wy
                a = np.uint64(2 * index)
                b, c, d = a + to_y, a + to_z, a + to_y + to_z
                re0 = w00 * table[a] + w01 * table[b] + w10 * table[c] + w11 * table[d]
                a, b, c, d = a + np.uint64(1), b + np.uint64(1), c + np.uint64(1), d + np.uint64(1)
                im0 = w00 * table[a] + w01 * table[b] + w10 * table[c] + w11 * table[d]
                a, b, c, d = a + np.uint64(1), b + np.uint64(1), c + np.uint64(1), d + np.uint64(1)
                re1 = w00 * table[a] + w01 * table[b] + w10 * table[c] + w11 * table[d]
                a, b, c, d = a + np.uint64(1), b + np.uint64(1), c + np.uint64(1), d + np.uint64(1)
                im1 = w00 * table[a] + w01 * table[b] + w10 * table[c] + w11 * table[d]
                spectra[image, row, kx, 0] = (one - wx) * re0 + wx * re1
                spectra[image, row, kx, 1] = sign * ((one - wx) * im0 + wx * im1)


def _make_scatter(columns: int) -> Callable[[Singles, Singles, float, Singles, Singles, int], None]:
    """The transpose of :func:`gather_slices`, over a table of two numbers for each frequency, or of three.

    The third is a sum of real weights, which go where the coefficients go.
    """

    @compiled
    def scatter(spectra: Singles, weights: Singles, step: float, rotations: Singles, sums: Singles, reach: int) -> None:
        one, scale, box = np.float32(1), np.float32(step), spectra.shape[1]
        to_y, to_z = np.uint64(columns * (reach + 1)), np.uint64(columns * (reach + 1) * (2 * reach + 1))
        for image in range(rotations.shape[0]):
            ax, ay, az = rotations[image, 0, 0] * scale, rotations[image, 0, 1] * scale, rotations[image, 0, 2] * scale
            bx, by, bz = rotations[image, 1, 0] * scale, rotations[image, 1, 1] * scale, rotations[image, 1, 2] * scale
            for row in range(box):
                ky = row if 2 * row < box else row - box
                y = np.float32(ky)
                for kx in range(row_length(ky, box)):
                    x = np.float32(kx)
                    index, wx, wy, wz, sign = locate(x * ax + y * bx, x * ay + y * by, x * az + y * bz, reach)
                    real, imaginary = spectra[image, row, kx, 0], sign * spectra[image, row, kx, 1]
                    first = np.uint64(columns * index)
                    for corner in range(4):
                        beside = (wz if corner >= 2 else one - wz) * (wy if corner % 2 else one - wy)
                        w0, w1 = beside * (one - wx), beside * wx
                        a = first + (to_z if corner >= 2 else np.uint64(0)) + (to_y if corner % 2 else np.uint64(0))
                        b = a + np.uint64(columns)
                        sums[a] += w0 * real
                        sums[a + np.uint64(1)] += w0 * imaginary
                        sums[b] += w1 * real
                        sums[b + np.uint64(1)] += w1 * imaginary
                        if columns == 3:  # known when it is compiled
                            weight = weights[image, row, kx]
                            sums[a + np.uint64(2)] += w0 * weight
                            sums[b + np.uint64(2)] += w1 * weight

    return scatter


NO_WEIGHTS = np.empty((0, 0, 0), np.float32)
scatter_slices = _make_scatter(2)
"""``(spectra, NO_WEIGHTS, step, rotations, table, reach)``: every coefficient is added to ``table`` with the weights that it is
read with; in a fixed order, so that the same images give the same sums to the last bit."""
scatter_weighted = _make_scatter(3)
"""``(spectra, weights, step, rotations, sums, reach)``: the same of spectra and of real weights ``(image, box, box // 2 + 1)`` at
once; ``sums`` is a flattened table ``(2 r + 1, 2 r + 1, r + 1, 3)`` of real part, imaginary part and weight."""


@compiled
def evaluate_transfer(coefficients: Doubles, transfer: Singles) -> None:
    """CTFs into ``transfer (image, box, box // 2 + 1)``, rows in FFT order.

    Args:
        coefficients: ``(image, 6)``: ``chi / (2 pi) = xx kx^2 + xy kx ky + yy ky^2 + q k^4 + constant`` and the envelope
            ``exp(-e k^2)``.
        transfer: to be filled.
    """
    box, columns = transfer.shape[1:]
    envelope = np.empty(columns, np.float32)
    for image in range(transfer.shape[0]):
        xx, xy, yy, quartic, constant, decay = coefficients[image]
        for kx in range(columns):
            envelope[kx] = np.exp(-decay * kx * kx)
        for row in range(box):
            ky = np.float64(row if 2 * row < box else row - box)
            damped = np.float32(np.exp(-decay * ky * ky))
            for kx in range(columns):
                x = np.float64(kx)
                square = x * x + ky * ky
                turns = (xx * x + xy * ky) * x + (yy * ky * ky + constant) + quartic * square * square
                # to a quarter turn either way in double precision, where a polynomial of degree 9 is good to 3e-9
                turns -= np.floor(turns + 0.5)
                folded = np.float32(min(max(turns, -0.5 - turns), 0.5 - turns))
                s = folded * folded
                sine = np.float32(-76.54978226) + s * np.float32(39.53670584)
                sine = np.float32(-41.34165503) + s * (np.float32(81.60100407) + s * sine)
                sine = folded * (np.float32(6.28318516) + s * sine)
                transfer[image, row, kx] = sine * (envelope[kx] * damped)


@compiled
def modulate(spectra: Singles, transfer: Singles, cycles: Doubles, gain: float, direction: float) -> None:
    """Multiply spectra, inside the Nyquist disc and in place, by real factors and by the phases of a shift.

    Args:
        spectra: ``(image, box, box // 2 + 1, 2)``.
        transfer: ``(image, box, box // 2 + 1)``.
        cycles: ``(image, 2)``: shift (x, y) over the box's length; the phase of ``k`` is ``-2 pi k . cycles``.
        gain: another real factor, of all.
        direction: 1, or -1 for the conjugate phases.
    """
    box, columns = transfer.shape[1:]
    along_x, along_y = np.empty(columns, np.complex64), np.empty(box, np.complex64)
    for image in range(spectra.shape[0]):
        turn_x = np.exp(-2j * np.pi * direction * cycles[image, 0])
        turn_y = np.exp(-2j * np.pi * direction * cycles[image, 1])
        phase = gain + 0.0j
        for kx in range(columns):
            along_x[kx] = phase
            phase *= turn_x
        phase = 1.0 + 0.0j
        for ky in range(box // 2 + 1):
            along_y[-ky] = np.conj(phase)
            along_y[ky] = phase
            phase *= turn_y
        for row in range(box):
            of_row = along_y[row]
            for kx in range(row_length(row if 2 * row < box else row - box, box)):
                factor = transfer[image, row, kx] * (of_row * along_x[kx])
                real, imaginary = spectra[image, row, kx, 0], spectra[image, row, kx, 1]
                spectra[image, row, kx, 0] = real * factor.real - imaginary * factor.imag
                spectra[image, row, kx, 1] = real * factor.imag + imaginary * factor.real

"""Generators of stationary Gaussian noise: a radial spectrum, a two-dimensional one, or a covariance by lag; read and written."""

from __future__ import annotations

import json
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryobench.errors import InputError, UnknownName
from cryobench.physics.noise import colour, mean_power
from cryobench.specimens.catalogue import datasets_root
from cryobench.types import Images, Plane

ModelKind: TypeAlias = Literal["radial", "spectrum2d", "covariance"]
KINDS: Final[tuple[ModelKind, ...]] = get_args(ModelKind)
DEFAULT_SPECTRUM: Final = "empiar10061"
"""The shipped spectrum that noise has where a scenario says no more than its SNR."""


@final
@dataclass(frozen=True)
class GaussianModel:
    """A stationary Gaussian noise, as fitted to patches of ``box`` pixels of ``pixel_size`` angstrom.

    Attributes:
        kind: ``"radial"``: mean power by spatial frequency; ``"spectrum2d"``: mean power over the half plane of the patch;
            ``"covariance"``: the covariance of two pixels by the lag (y, x) between them, windowed to zero.
        pixel_size: angstrom.
        box: pixels.
        values: ``(frequency,)``; ``(box, box // 2 + 1)`` in FFT order; or ``(2 L + 1, 2 L + 1)`` with lag zero in the middle.
        frequencies: 1/angstrom, of a radial spectrum's values; empty for the others.
        provenance: what it was fitted to and how.
    """

    kind: ModelKind
    pixel_size: float
    box: int
    values: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    provenance: Mapping[str, Any]

    @property
    def highest_frequency(self) -> float:
        """Up to which the spectrum was measured in every direction, 1/angstrom; beyond, the value there is taken."""
        return float(self.frequencies[-1]) if self.kind == "radial" else 0.5 / self.pixel_size

    def torus(self, box: int, pixel_size: float) -> int:
        """Side of the periodic field that images of ``box`` pixels are cut from.

        The box itself for spectra, whose images are periodic. For a covariance of longest lag ``L`` at least ``box + L``: pixels
        at opposite edges of the image are then further apart than ``L`` either way round (circulant embedding; Dietrich & Newsam
        1997, SIAM J. Sci. Comput. 18:1088).
        """
        if self.kind != "covariance":
            return box
        longest = (len(self.values) // 2) * self.pixel_size / pixel_size
        return int(fft.next_fast_len(box + int(np.ceil(longest)), real=True))

    def power(self, box: int, pixel_size: float) -> Plane:
        """The spectrum on the half plane of the :meth:`torus` of ``box`` pixels of ``pixel_size`` angstrom, of mean one."""
        side = self.torus(box, pixel_size)
        fy, fx = fft.fftfreq(side, pixel_size), fft.rfftfreq(side, pixel_size)
        if self.kind == "radial":
            plane = np.interp(np.hypot(fy[:, None], fx), self.frequencies, self.values)
        elif self.kind == "spectrum2d":
            plane = self._interpolated(fy, fx)
        else:
            plane = self._transformed(fy, fx)
        power = torch.as_tensor(np.maximum(plane, 0), dtype=torch.float32)
        return power / mean_power(power)

    def draw(self, count: int, box: int, pixel_size: float, source: np.random.Generator) -> Images:
        """``count`` images of unit variance, ``(count, box, box)``."""
        power = self.power(box, pixel_size)
        side = power.shape[-2]
        white = torch.as_tensor(source.standard_normal((count, side, side), dtype=np.float32))
        return colour(white, power)[:, :box, :box]

    def _interpolated(self, fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bilinear between the coefficients of the patches' spectrum."""
        rows, columns = np.meshgrid(fy, fx, indexing="ij")
        scale = self.box * self.pixel_size
        # rows from -(box // 2) on; at frequencies x >= 0 no column beyond the stored half is asked for
        points = [rows * scale + self.box // 2, columns * scale]
        return ndimage.map_coordinates(fft.fftshift(self.values, 0), points, order=1, mode="nearest")

    def _transformed(self, fy: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
        """The cosine transform of the covariance at any frequency (Wiener-Khinchin): no interpolation."""
        longest, highest = len(self.values) // 2, 0.5 / self.pixel_size
        lags = np.arange(-longest, longest + 1) * self.pixel_size
        along_y = np.exp(-2j * np.pi * np.outer(np.clip(fy, -highest, highest), lags))
        along_x = np.exp(-2j * np.pi * np.outer(lags, np.clip(fx, -highest, highest)))
        return np.real(along_y @ self.values @ along_x)


def radial_model(frequencies: list[float], power: list[float], provenance: Mapping[str, Any]) -> GaussianModel:
    """A model from a radial spectrum that is given, not fitted; its pixel is that whose Nyquist frequency is the last one."""
    f, p = np.asarray(frequencies, dtype=np.float64), np.asarray(power, dtype=np.float64)
    return GaussianModel("radial", 0.5 / float(f[-1]), 0, p, f, provenance)


def write_model(path: str | Path, model: GaussianModel) -> None:
    """Write a model: ``.npz``, or ``.toml`` for a radial spectrum that people are to read.

    Raises:
        InputError: if the name ends in neither, or a model that is not radial is to become TOML.
    """
    path = Path(path)
    if path.suffix == ".toml" and model.kind == "radial":
        path.write_text(_format_toml(model), encoding="utf-8")
    elif path.suffix == ".npz":
        described = json.dumps(dict(model.provenance))
        with path.open("wb") as file:
            np.savez_compressed(
                file, kind=model.kind, pixel_size=model.pixel_size, box=model.box, values=model.values,
                frequencies=model.frequencies, provenance=described,
            )  # fmt: skip
    else:
        raise InputError(f"expected a name ending in .npz (or .toml for a radial model) to write to, got {path}")


def _format_toml(model: GaussianModel) -> str:
    def listed(values: NDArray[np.float64], digits: int) -> str:
        words = [f"{value:.{digits}g}" for value in values]
        lines = [", ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
        return "[\n  " + ",\n  ".join(lines) + ",\n]"

    facts = [f"{key} = {json.dumps(value)}" for key, value in model.provenance.items()]
    return "\n".join(
        [
            "# Radial power spectrum of noise: linear between the frequencies, constant beyond; only its shape matters.",
            'kind = "radial"',
            f"pixel_size = {float(model.pixel_size)!r}",
            f"box = {model.box}",
            f"frequencies = {listed(model.frequencies, 6)}",
            f"power = {listed(model.values, 5)}",
            "",
            "[provenance]",
            *facts,
            "",
        ]
    )


def read_model(path: str | Path) -> GaussianModel:
    """Read what :func:`write_model` wrote.

    Raises:
        InputError: no such file, or not such a model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected a noise model at {path}, found no file there; `cryobench noise fit` writes one")
    if path.suffix not in (".npz", ".toml"):
        raise InputError(
            f"{path}: expected a noise model, which ends in .npz or .toml; `cryobench noise fit` writes one"
        )
    try:
        if path.suffix == ".toml":
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            values, frequencies = table["power"], table["frequencies"]
            provenance = table.get("provenance", {})
        else:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                table = {name: file[name].item() for name in ("kind", "pixel_size", "box")}
                values, frequencies = file["values"], file["frequencies"]
                provenance = json.loads(file["provenance"].item())
        model = GaussianModel(
            table["kind"],
            float(table["pixel_size"]),
            int(table["box"]),
            np.asarray(values, dtype=np.float64),
            np.asarray(frequencies, dtype=np.float64),
            provenance,
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: expected a noise model (.npz, or .toml if radial), got {reason}") from error
    _check(path, model)
    return model


def _check(path: Path, model: GaussianModel) -> None:
    shapes = {
        "radial": (len(model.frequencies),),
        "spectrum2d": (model.box, model.box // 2 + 1),
        "covariance": (len(model.values),) * 2,
    }
    if model.kind not in shapes or not model.pixel_size > 0:
        raise InputError(
            f"{path}: expected a model of kind {', '.join(KINDS)} and a pixel size, got {model.kind!r}, {model.pixel_size}"
        )
    right = model.values.shape == shapes[model.kind] and model.values.size > 1 and np.isfinite(model.values).all()
    rising = bool((np.diff(model.frequencies) > 0).all()) and bool(np.isfinite(model.frequencies).all())
    if (
        not right
        or not rising
        or not model.values.max() > 0
        or (model.kind == "covariance" and len(model.values) % 2 == 0)
    ):
        raise InputError(
            f"{path}: expected finite values of shape {shapes[model.kind]}, not all zero, with ascending frequencies, "
            f"got shape {model.values.shape}"
        )


def shipped_spectra() -> dict[str, Path]:
    """The radial spectra that come with cryobench, by name."""
    return {path.stem: path for path in sorted((datasets_root() / "noise").glob("*.toml"))}


def find_model(name: str) -> GaussianModel:
    """A shipped spectrum by name, or a model from a file by path.

    Raises:
        UnknownName: if there is neither.
        InputError: if the file is no model.
    """
    known = shipped_spectra()
    path = known.get(name, Path(name))
    if name not in known and not path.is_file() and path.suffix not in {".toml", ".npz"}:
        raise UnknownName("noise spectrum", name, known)
    return read_model(path)


def find_spectrum(name: str) -> GaussianModel:
    """What :func:`find_model` finds, if it is a radial spectrum.

    Raises:
        InputError: if it is not.
    """
    model = find_model(name)
    if model.kind != "radial":
        raise InputError(
            f"{name}: expected a radial spectrum, got a model of kind {model.kind!r}; use it as kind 'fitted'"
        )
    return model

"""Generators fitted to patches of known spectrum: what they give back, and how they are kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cryobench.errors import InputError, UnknownName
from cryobench.noise.fit import fit_file, fit_noise
from cryobench.noise.model import KINDS, find_spectrum, radial_model, read_model, shipped_spectra, write_model
from cryobench.noise.patches import Patches, read_patches
from cryobench.physics.noise import colour, radial_power

BOX, PIXEL = 48, 2.0


def plane(side: int) -> torch.Tensor:
    """Steep and elongated: more power along x than along y."""
    ky, kx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    return torch.as_tensor(0.5 + 8 / (1 + (kx / 0.04) ** 2 + (ky / 0.10) ** 2), dtype=torch.float32)


def patches(count: int, seed: int = 0) -> Patches:
    """Cut from fields four times as wide, so that opposite edges are strangers, as in real patches."""
    white = torch.randn(count, 4 * BOX, 4 * BOX, generator=torch.Generator().manual_seed(seed))
    images = colour(white, plane(4 * BOX))[:, :BOX, :BOX]
    images = images - images.mean((-2, -1), keepdim=True)
    return Patches(images / images.std(), PIXEL, np.full(count, -1, np.int32), (), Path("made"), True)


def true_covariance(lag: int, axis: str) -> float:
    """Of pixels so far apart, relative to the variance, from the spectrum itself."""
    side = 8 * BOX
    covariance = torch.fft.irfft2(plane(side).double(), s=(side, side))
    return float((covariance[0, lag] if axis == "x" else covariance[lag, 0]) / covariance[0, 0])


def edges(images: torch.Tensor) -> float:
    return float((images[..., :1] * images[..., -1:]).mean() / images.var())


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_noise_has_unit_variance_and_the_patches_radial_spectrum(kind: str) -> None:
    real = patches(60)
    drawn = fit_noise(real, kind).draw(200, BOX, PIXEL, np.random.default_rng(1))
    assert float(drawn.var()) == pytest.approx(1, abs=0.03)
    ratio = radial_power(drawn)[2:] / radial_power(real.images)[2:]
    assert (ratio - 1).abs().max() < 0.15


def test_two_dimensional_models_keep_the_direction_and_a_radial_one_does_not() -> None:
    expected = true_covariance(6, "x") - true_covariance(6, "y")
    assert expected > 0.02  # the spectrum is narrower along x, so that the covariance reaches further there
    found = {}
    for kind in KINDS:
        drawn = fit_noise(patches(60), kind).draw(300, BOX, PIXEL, np.random.default_rng(2))
        along_x = float((drawn[..., 6:] * drawn[..., :-6]).mean())
        along_y = float((drawn[..., 6:, :] * drawn[..., :-6, :]).mean())
        found[kind] = along_x - along_y
    assert abs(found["radial"]) < 0.02
    assert found["spectrum2d"] == pytest.approx(expected, abs=0.03)
    assert found["covariance"] == pytest.approx(expected, abs=0.03)


def test_only_the_covariance_model_leaves_opposite_edges_apart() -> None:
    real, rng = patches(60), np.random.default_rng(3)
    # 60 patches of 48 edge pixels, correlated along the edge: some 0.03
    assert edges(real.images) == pytest.approx(0, abs=0.1)
    neighbours = true_covariance(1, "x")
    all_round = (neighbours + true_covariance(1, "y")) / 2
    assert min(neighbours, all_round) > 0.2
    for kind, expected in (("radial", all_round), ("spectrum2d", neighbours), ("covariance", 0.0)):
        assert edges(fit_noise(real, kind).draw(300, BOX, PIXEL, rng)) == pytest.approx(expected, abs=0.06)


def test_the_torus_is_wide_enough_for_its_longest_lag() -> None:
    model = fit_noise(patches(4), "covariance")
    for box, pixel in ((48, 2.0), (31, 2.0), (40, 3.7)):
        assert model.torus(box, pixel) >= box + (BOX // 2) * PIXEL / pixel
    assert fit_noise(patches(4), "radial").torus(48, 2.0) == 48


def test_covariance_of_the_drawn_field_is_the_model_s() -> None:
    """The embedded field's own covariance, by Wiener-Khinchin, is the fitted one at every lag that an image holds."""
    model = fit_noise(patches(20), "covariance")
    power = model.power(BOX, PIXEL).double()
    side = power.shape[-2]
    field = torch.fft.irfft2(power, s=(side, side)).numpy()
    longest = len(model.values) // 2
    lags = np.arange(-longest, longest + 1)
    fitted = model.values / model.values[longest, longest]
    # what is clipped where windowed estimates of the power fall below zero is small
    np.testing.assert_allclose(field[np.ix_(lags, lags)] / field[0, 0], fitted, atol=0.01)
    assert abs(field[longest + 1 : side - longest].max() / field[0, 0]) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_noise_at_another_pixel_and_box(kind: str) -> None:
    """A coarser pixel sees the same power at the same frequencies."""
    model = fit_noise(patches(40), kind)
    drawn = model.draw(300, 36, 3.0, np.random.default_rng(4))
    frequency = np.arange(3, 18) / (36 * 3.0)
    side = 8 * BOX
    true = radial_power(colour(_impulse(side), plane(side)))
    expected = np.interp(frequency, np.arange(side // 2 + 1) / (side * PIXEL), true.numpy())
    ratio = radial_power(drawn)[3:18].numpy() / expected
    assert ratio.std() / ratio.mean() < 0.12


def _impulse(side: int) -> torch.Tensor:
    impulse = torch.zeros(1, side, side)
    impulse[0, 0, 0] = side
    return impulse


def test_smoothing_narrows_with_more_patches() -> None:
    def error(count: int) -> float:
        found = fit_noise(patches(count, seed=9), "spectrum2d")
        expected = plane(BOX).numpy()
        ratio = found.values / expected
        inner = ratio[4:20, 4:20]
        return float(inner.std() / inner.mean())

    few, many = error(4), error(100)
    assert few < 0.12  # a bare mean of four periodograms is off by a half
    assert many < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_models_survive_being_written(tmp_path: Path, kind: str) -> None:
    model = fit_noise(patches(4), kind, {"note": "made, not measured"})
    write_model(tmp_path / "m.npz", model)
    again = read_model(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.values, model.values)
    assert (again.kind, again.box, again.pixel_size) == (kind, BOX, PIXEL)
    assert again.provenance == model.provenance
    assert again.provenance["patches"] == 4
    if kind == "radial":
        write_model(tmp_path / "m.toml", model)
        np.testing.assert_allclose(read_model(tmp_path / "m.toml").values, model.values, rtol=1e-4)
        assert find_spectrum(str(tmp_path / "m.toml")).provenance["note"] == "made, not measured"
    else:
        with pytest.raises(InputError, match=r"\.toml for a radial model"):
            write_model(tmp_path / "m.toml", model)
        with pytest.raises(InputError, match="use it as kind 'fitted'"):
            find_spectrum(str(tmp_path / "m.npz"))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="noise fit"):
        read_model(tmp_path / "none.npz")
    for name, content in (("a.npz", b"PK\x03\x04 not really"), ("b.toml", b"kind = "), ("c.toml", b'kind = "radial"')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_model(tmp_path / name)
    (tmp_path / "stack.mrcs").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"stack\.mrcs: expected a noise model, which ends in \.npz or \.toml"):
        read_model(tmp_path / "stack.mrcs")
    text = 'kind = "radial"\npixel_size = 1.0\nbox = 8\nfrequencies = [0.1, 0.0]\npower = [1.0, nan]\n'
    (tmp_path / "d.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"d\.toml: expected finite values"):
        read_model(tmp_path / "d.toml")
    with pytest.raises(UnknownName, match="did you mean 'empiar10061'"):
        find_spectrum("empiar1061")
    with pytest.raises(InputError, match="at least 2 patches to fit"):
        fit_noise(patches(2).take([0]), "radial")


def test_a_given_spectrum_is_interpolated_and_constant_beyond() -> None:
    model = radial_model([0.0, 0.1], [3.0, 1.0], {})
    power = model.power(20, 2.5)  # shells of 0.02 1/angstrom, up to 0.2
    np.testing.assert_allclose(power[0, 1:5] / power[0, 10], [2.6, 2.2, 1.8, 1.4], rtol=1e-5)
    assert float(power[0, 7] / power[10, 10]) == 1


def stack(path: Path, images: NDArray[np.float32], pixel: float) -> Path:
    with mrcfile.new(path, overwrite=True) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile warns of NaN
        file.set_data(images)
        file.voxel_size = pixel
    return path


def test_a_file_is_fitted_and_says_how(tmp_path: Path) -> None:
    path = stack(tmp_path / "p.mrcs", 5 - 2 * patches(12).images.numpy(), PIXEL)
    (tmp_path / "i.txt").write_text("0 3 4 7", encoding="utf-8")
    model = fit_file(path, "radial", indices=tmp_path / "i.txt", out=tmp_path / "m.toml")
    assert model.provenance["patches"] == 4
    expected = "cryobench noise fit p.mrcs --model radial --indices i.txt --out m.toml"
    assert model.provenance["command"] == expected
    same = fit_noise(patches(12).take([0, 3, 4, 7]), "radial")
    np.testing.assert_allclose(model.values, same.values, rtol=1e-4)


def test_patches_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    images = patches(4).images.numpy().copy()
    images[2, 5, 5] = np.nan
    with pytest.raises(InputError, match="patch 2"):
        read_patches(stack(tmp_path / "nan.mrcs", images, PIXEL))
    with pytest.raises(InputError, match="no pixel size"):
        read_patches(stack(tmp_path / "bare.mrcs", images, 0))
    with pytest.raises(InputError, match="square patches"):
        read_patches(stack(tmp_path / "long.mrcs", images[:, :20], PIXEL))


def test_resampled_patches_keep_white_noise_white() -> None:
    white = torch.randn(200, 48, 48, generator=torch.Generator().manual_seed(0))
    made = Patches(white, 2.0, np.full(200, -1, np.int32), (), Path("made"), True)
    for pixel in (3.0, 2.9):
        coarse = made.resampled(pixel)
        power = torch.fft.rfft2(coarse.images).abs().square().mean(0) / coarse.box**2
        inner = power[1 : coarse.box // 2, 1 : (coarse.box - 1) // 2]
        assert float(inner.mean()) == pytest.approx(1, abs=0.08)
        assert (inner / inner.mean() - 1).abs().max() < 0.45  # corners too: 200 images leave 7 %
    with pytest.raises(InputError, match=r"pixels of at most 1\.0 Å"):
        made.resampled(1.0)


def test_the_shipped_spectrum_is_what_the_command_makes_of_the_data(data_directory: Path) -> None:
    shipped = read_model(shipped_spectra()["empiar10061"])
    folder = data_directory / "cryogan_betagal"
    again = fit_file(
        folder / "background_384_mic0-2.mrcs",
        "radial",
        indices=folder / "independent_background_indices.txt",
        out=Path("empiar10061.toml"),
        note=str(shipped.provenance["note"]),
    )
    np.testing.assert_allclose(shipped.values, again.values, rtol=2e-4)
    np.testing.assert_allclose(shipped.frequencies, again.frequencies, rtol=1e-5)
    assert dict(shipped.provenance) == dict(again.provenance)
    # more at low frequencies, ice and residual structure; counting noise is flat beyond
    at = np.interp([1 / 100, 1 / 20, 1 / 5, 1 / 2], shipped.frequencies, shipped.values)
    assert 1.5 < at[0] < 2.5
    assert 1.2 < at[1] < 1.8
    assert at[2:] == pytest.approx(1, abs=0.06)


def test_patches_that_share_noise_count_once(tmp_path: Path) -> None:
    field = np.random.default_rng(5).standard_normal((6, 96, 96)).astype(np.float32)
    stack = np.concatenate([field[:, :64, :64], field[:3, 20:84, 20:84]])  # the last three overlap the first three
    with mrcfile.new(tmp_path / "overlapping.mrcs", stack) as file:
        file.voxel_size = 2.0
    model = fit_file(tmp_path / "overlapping.mrcs", "radial", out=tmp_path / "m.toml")
    assert model.provenance["patches"] == 6
    assert model.provenance["left_out"].startswith("3 patches")

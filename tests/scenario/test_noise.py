from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryobench.errors import InputError, UnknownName
from cryobench.noise.fit import fit_noise
from cryobench.noise.model import KINDS, write_model
from cryobench.noise.patches import Patches, independent_patches
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.grids import half_frequencies, inside_nyquist
from cryobench.physics.noise import colour, mean_power, radial_power
from cryobench.scenario.files import adapt_scenario, load_scenario
from cryobench.scenario.noise import NoiseSource, noise_sources
from cryobench.scenario.pairing import POOLS
from cryobench.scenario.spec import Scenario, parse_scenario


def write_stack(path: Path, count: int, side: int, seed: int = 0, shared: bool = False) -> Path:
    rng = np.random.default_rng(seed)
    field = rng.standard_normal((count, side, side)).astype(np.float32)
    if shared:  # patch 1 overlaps patch 0 by half its width
        field[1, :, : side // 2] = field[0, :, side // 2 :]
    with mrcfile.new(path, overwrite=True) as stack:
        stack.set_data(10 + 3 * field)
        stack.voxel_size = 9.768
    return path


def test_overlapping_patches_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    patches = torch.as_tensor(rng.standard_normal((5, 96, 96)).astype(np.float32))
    patches[3, :40, :] = patches[1, 50:90, :]
    assert independent_patches(patches) == [0, 1, 2, 4]


def test_real_stack_holds_sixteen_independent_patches(data_directory: Path) -> None:
    folder = data_directory / "cryogan_betagal"
    listed = folder / "independent_background_indices.txt"
    scenario = adapt_scenario("snr-20", noise=folder / "background_384_mic0-2.mrcs", noise_indices=listed)
    sources, note = noise_sources(scenario)
    assert "16 taken, 16 of them independent" in note
    assert "filled by a generator" in note
    # the generators of disjoint pools were fitted apart: alike, not equal
    powers = [sources[name].power for name in POOLS]
    assert all(p is not None for p in powers)
    a, b = powers[0], powers[1]
    assert not torch.equal(a, b)
    assert float((a[5:80] / b[5:80]).log().abs().median()) < 0.2


def shells(power: torch.Tensor) -> np.ndarray:
    """Ring means of a spectrum over the half plane."""
    box = power.shape[-2]
    kx, ky = half_frequencies(box, power)
    shell = (kx**2 + ky**2).sqrt().round().long().flatten()
    weight = torch.where((kx == 0) | (2 * kx == box), 1.0, 2.0).flatten()
    total = torch.bincount(shell, power.flatten() * weight) / torch.bincount(shell, weight)
    return total[: box // 2 + 1].numpy()


def test_generated_noise_has_unit_variance_and_the_fitted_spectrum(data_directory: Path) -> None:
    scenario = adapt_scenario("snr-20", noise=data_directory / "cryogan_betagal" / "background_384_mic0-2.mrcs")
    source = noise_sources(scenario)[0]["noise"]
    images = source.draw(0, "noise", 0, 64)
    assert float(images.var()) == pytest.approx(1, abs=0.02)
    measured = radial_power(images)
    assert source.power is not None
    np.testing.assert_allclose(measured[3:90], shells(source.power)[3:90], rtol=0.15)


def test_enough_patches_are_used_as_they_are_and_pools_are_disjoint(tmp_path: Path) -> None:
    scenario = adapt_scenario("tiny", noise=write_stack(tmp_path / "many.mrcs", 210, 40))
    sources, note = noise_sources(scenario)
    assert "generator" not in note
    pools = [sources[name].patches for name in POOLS]
    assert all(pool is not None and len(pool) >= 64 for pool in pools)
    seen = [{float(patch[0, 0]) for patch in pool} for pool in pools if pool is not None]
    assert len(set.union(*seen)) == sum(map(len, seen))
    drawn = sources["noise"].draw(0, "noise", 0, 8)
    assert drawn.shape == (8, 24, 24)


def test_listed_patches_alone_are_used(tmp_path: Path) -> None:
    stack, listed = write_stack(tmp_path / "stack.mrcs", 12, 40), tmp_path / "indices.txt"
    listed.write_text("0 2\n4 5 7 9 11 99", encoding="utf-8")
    _, note = noise_sources(adapt_scenario("tiny", noise=stack, noise_indices=listed))
    assert "7 taken, 7 of them independent" in note
    listed.write_text("0 two", encoding="utf-8")
    with pytest.raises(InputError, match="patch indices"):
        noise_sources(adapt_scenario("tiny", noise=stack, noise_indices=listed))


def test_patches_too_small_or_without_pixel_size_are_refused(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "small.mrcs", 12, 20)
    with pytest.raises(InputError, match="square patches of at least 234 Å"):
        noise_sources(adapt_scenario("tiny", noise=path))
    with mrcfile.open(path, mode="r+") as stack:
        stack.voxel_size = 0
    with pytest.raises(InputError, match="no pixel size"):
        noise_sources(adapt_scenario("tiny", noise=path))


def test_coloured_noise_has_the_stated_spectrum() -> None:
    table = load_scenario("tiny").model_dump()
    table["noise"] = {"kind": "coloured", "snr_db": 0.0, "frequencies": [0.0, 0.05], "power": [4.0, 1.0]}
    sources, note = noise_sources(parse_scenario(table, "coloured"))
    images = sources["noise"].draw(0, "noise", 0, 2000)
    assert float(images.var()) == pytest.approx(1, abs=0.02)
    power = radial_power(images)
    assert float(power[1] / power[11]) == pytest.approx((4 - 3 / 11.72) / (4 - 3 * 11 / 11.72), rel=0.1)
    assert "spectrum" in note
    for power, frequencies in (([1.0, 2.0, 3.0], [0.0, 0.05]), ([1.0, 2.0], [0.05, 0.0]), ([0.0, 0.0], [0.0, 0.05])):
        table["noise"] |= {"power": power, "frequencies": frequencies}
        with pytest.raises(InputError, match="one power each"):
            parse_scenario(table, "coloured")
    table["noise"]["spectrum"] = "empiar10061"
    with pytest.raises(InputError, match="got both or neither"):
        parse_scenario(table, "coloured")


def coloured(box: int = 16, **noise: object) -> Scenario:
    table = load_scenario("tiny").model_dump()
    table["image"] |= {"native_box": 48, "native_pixel_size": 4.884, "box": box}
    spectrum = {"kind": "coloured", "frequencies": [0.0, 0.05], "power": [6.0, 1.0]}
    table["noise"] = {"snr_db": 0.0, **(noise or spectrum)}
    return parse_scenario(table, "made")


@pytest.mark.parametrize("kind", ["white", "coloured"])
@pytest.mark.parametrize("box", [16, 15])
def test_noise_drawn_at_the_working_box_is_distributed_as_the_crop_of_native_noise(kind: str, box: int) -> None:
    source = noise_sources(coloured())[0]["noise"] if kind == "coloured" else NoiseSource(48)
    count = 4000
    direct = source.draw(0, "noise", 0, count, box)
    cropped = fourier_crop_images(source.draw(1, "noise", 0, count), box)
    expected = source.variance(box)
    assert expected is not None
    for images in (direct, cropped):
        # of a normal variable: (2 / pixels)^(1/2), and fewer independent ones where noise is coloured
        assert float(images.double().var()) == pytest.approx(expected, rel=0.015)
    a, b = (torch.fft.rfft2(images).abs().square().mean(0) / box**2 for images in (direct, cropped))
    inside = inside_nyquist(box, a)
    assert float(a[~inside].abs().max()) < 1e-6
    assert float(b[~inside].abs().max()) < 1e-6
    # two means of exponential variables, 4,000 of each: 2.2 % apart, 5 deviations
    assert (a[inside] / b[inside] - 1).abs().max() < 0.12
    assert float((a[inside] / b[inside]).mean()) == pytest.approx(1, abs=0.01)
    # Gaussian in both cases, and no correlation between the coefficients
    for images in (direct, cropped):
        z = images / images.std()
        assert float((z**4).mean()) == pytest.approx(3, abs=0.06)


def test_draws_do_not_depend_on_their_neighbours() -> None:
    source = noise_sources(coloured())[0]["noise"]
    whole = source.draw(5, "pool-1", 0, 150, 16)
    torch.testing.assert_close(source.draw(5, "pool-1", 70, 90, 16), whole[70:90])
    assert not torch.equal(source.draw(5, "pool-2", 0, 8, 16), whole[:8])
    assert not torch.equal(source.draw(6, "pool-1", 0, 8, 16), whole[:8])


def test_noise_of_no_kind_has_the_shipped_spectrum() -> None:
    table = load_scenario("snr-20").model_dump()
    table["noise"] = {"snr_db": -3.0}
    scenario = parse_scenario(table, "bare")
    assert (scenario.noise.kind, scenario.noise.spectrum) == ("coloured", "empiar10061")
    assert load_scenario("snr-20").noise.spectrum == "empiar10061"
    sources, note = noise_sources(scenario)
    assert "empiar10061, measured on 16 patches" in note
    power = shells(sources["noise"].power)
    assert power[2] > 1.5 * power[60]
    assert mean_power(sources["noise"].power) == pytest.approx(1, abs=1e-5)
    # more of it at the frequencies of the working box than white noise has, by the same SNR at the native pixel
    assert sources["noise"].variance(32) > 1.2 * NoiseSource(184).variance(32)


def test_an_unknown_spectrum_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'empiar10061'"):
        noise_sources(adapt_scenario("snr-20", settings=["noise.spectrum=empiar10016"]))


def test_a_spectrum_and_numbers_take_each_other_s_place() -> None:
    numbers = ["noise.frequencies=[0, 0.1]", "noise.power=[2, 1]"]
    changed = adapt_scenario("snr-20", settings=numbers).noise
    assert (changed.spectrum, changed.power) == (None, [2, 1])


def test_extrapolation_is_told() -> None:
    fine = adapt_scenario("snr-20", settings=["image.native_pixel_size=0.3"])
    assert "taken as constant from there" in noise_sources(fine)[1]
    assert "taken as constant" not in noise_sources(load_scenario("snr-20"))[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_model_is_drawn_from(tmp_path: Path, kind: str) -> None:
    field = torch.randn(40, 160, 160, generator=torch.Generator().manual_seed(0))
    steep = 0.1 + 8 / (1 + torch.arange(81) / 8.0) ** 2
    images = colour(field, steep)[:, :80, :80]
    patches = Patches(images / images.std(), 4.884, np.full(40, -1, np.int32), (), Path("made"), True)
    write_model(tmp_path / "m.npz", fit_noise(patches, kind))
    scenario = coloured(kind="fitted", path=str(tmp_path / "m.npz"))
    sources, note = noise_sources(scenario)
    assert "fitted to 40 patches" in note
    source = sources["noise"]
    native = source.draw(0, "noise", 0, 800)
    assert float(native.var()) == pytest.approx(1, abs=0.03)
    assert source.periodic == (kind != "covariance")
    # opposite edges of periodic images are neighbours
    edges, neighbours = (
        float((native[..., 0] * native[..., -1]).mean()),
        float((native[..., 1:] * native[..., :-1]).mean()),
    )
    assert neighbours > 0.2
    assert edges == pytest.approx(neighbours if source.periodic else 0, abs=0.04)
    torch.testing.assert_close(
        source.draw(0, "noise", 0, 64, 16).var(), fourier_crop_images(native[:64], 16).var(), rtol=0.05, atol=0
    )
    expected = np.interp(np.arange(3, 20) / 48, np.arange(81) / 160, steep.numpy())
    ratio = radial_power(native)[3:20].numpy() / expected
    assert ratio.std() / ratio.mean() < 0.12


def test_whitened_patches_have_a_flat_spectrum(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "stack.mrcs", 12, 40)
    with mrcfile.open(path, mode="r+") as stack:
        field = stack.data
        stack.set_data(field + np.roll(field, 1, axis=-1) + np.roll(field, 1, axis=-2))
    table = adapt_scenario("tiny", noise=path).model_dump()
    ratios = []
    for whitened in (False, True):
        table["noise"]["whiten"] = whitened
        power = noise_sources(parse_scenario(table, "patches"))[0]["noise"].power
        assert power is not None
        rings = shells(power)
        ratios.append(float(rings[1:4].mean() / rings[9:12].mean()))
    assert ratios[0] > 3
    assert ratios[1] == pytest.approx(1, abs=0.35)

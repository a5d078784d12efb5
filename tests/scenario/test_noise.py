from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryobench.errors import InputError
from cryobench.physics.noise import radial_power
from cryobench.scenario.files import adapt_scenario, load_scenario
from cryobench.scenario.noise import POOLS, independent_patches, noise_sources
from cryobench.scenario.spec import parse_scenario


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
    assert "16 taken from the stack, 16 of them independent" in note
    assert "filled by a generator" in note
    # the generators of disjoint pools were fitted apart: alike, not equal
    powers = [sources[name].power for name in POOLS]
    assert all(p is not None for p in powers)
    a, b = powers[0], powers[1]
    assert not torch.equal(a, b)
    assert float((a[5:80] / b[5:80]).log().abs().median()) < 0.2


def test_generated_noise_has_unit_variance_and_the_fitted_spectrum(data_directory: Path) -> None:
    scenario = adapt_scenario("snr-20", noise=data_directory / "cryogan_betagal" / "background_384_mic0-2.mrcs")
    source = noise_sources(scenario)[0]["noise"]
    images = source.draw(0, "noise", 0, 64)
    assert float(images.var()) == pytest.approx(1, abs=0.02)
    measured = radial_power(images)
    assert source.power is not None
    np.testing.assert_allclose(measured[3:90], source.power[3:90], rtol=0.15)


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
    assert "7 taken from the stack, 7 of them independent" in note
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
    table["noise"]["power"] = [1.0, 2.0, 3.0]
    with pytest.raises(InputError, match="one power each"):
        parse_scenario(table, "coloured")


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
        ratios.append(float(power[1:4].mean() / power[9:12].mean()))
    assert ratios[0] > 3
    assert ratios[1] == pytest.approx(1, abs=0.35)

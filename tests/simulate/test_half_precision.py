"""Images stored as float16: half the bytes, an error that is told, and read as float32."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

from cryobench.dataset.check import check_dataset
from cryobench.dataset.info import describe_dataset
from cryobench.dataset.precision import encode, half_precision_unit
from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.errors import StoreError
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate


@pytest.fixture(scope="module", params=[0.0, math.inf], ids=["noisy", "noise-free"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("half")
    for dtype in ("float32", "float16"):
        scenario = adapt_scenario("tiny", snr_db=request.param, dtype=dtype, settings=["noise.pool=16"])
        simulate(scenario, root / dtype, seed=5)
    return root / "float32", root / "float16"


def images(directory: Path) -> np.ndarray:
    return open_store(directory / "observed.zarr", "observed")["images"].values


def test_the_error_is_what_rounding_to_eleven_bits_makes_and_is_told(pair: tuple[Path, Path]) -> None:
    exact, stored = images(pair[0]).astype(float), images(pair[1])
    error = np.sqrt(np.square(stored - exact).mean() / np.square(exact).mean())
    assert 1e-4 < error < 2.0**-11
    told = open_store(pair[1] / "observed.zarr", "observed")["images"].attrs["rounding_error"]
    assert told == pytest.approx(error, rel=0.1)
    rows = dict(describe_dataset(pair[1]))
    assert "float16" in rows["stored as"]
    assert "standard error 0" not in rows["SNR"]
    assert "float32" in dict(describe_dataset(pair[0]))["stored as"]


def test_half_the_bytes(pair: tuple[Path, Path]) -> None:
    full, half = (
        sum(p.stat().st_size for p in (path / "observed.zarr" / "images" / "c").rglob("*") if p.is_file())
        for path in pair
    )
    assert half == pytest.approx(full / 2, rel=0.01)


def test_methods_and_plain_xarray_read_values_in_their_own_unit(pair: tuple[Path, Path]) -> None:
    batches = [Observed(open_store(path / "observed.zarr", "observed"), 1).read(slice(0, 40)) for path in pair]
    assert batches[1].images.dtype == torch.float32
    largest = float(batches[0].images.abs().max())
    torch.testing.assert_close(batches[1].images, batches[0].images, rtol=0, atol=largest * 2.0**-11)
    with xr.open_zarr(pair[1] / "observed.zarr") as plain:
        np.testing.assert_array_equal(plain["images"].values, images(pair[1]))
    assert check_dataset(pair[1]) == []


@pytest.mark.parametrize("deviation", [1e-12, 3e-5, 1.0, 7e4, 1e12])
def test_no_scale_of_density_overflows_or_vanishes(deviation: float) -> None:
    unit = half_precision_unit(deviation)
    assert math.log2(unit).is_integer()
    values = deviation * np.random.default_rng(0).standard_normal(100000)
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    array = group.create_array("images", shape=(1,), dtype="float16", attributes={"scale_factor": unit})
    stored = encode(array, values).astype(float) * unit
    assert np.sqrt(np.square(stored - values).mean()) / deviation < 2.0**-11
    with pytest.raises(StoreError, match=r"beyond the range of float16 .* choose image\.dtype float32"):
        encode(array, np.array([1e6 * deviation]))

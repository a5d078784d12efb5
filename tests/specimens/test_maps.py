from __future__ import annotations

import mrcfile
import numpy as np
import pytest
import torch

from cryobench.errors import InputError
from cryobench.interop.mrc import write_map
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.specimens.maps import DensityMap
from cryobench.specimens.render import render_points

CENTRES = np.array([[10.0, -14.0, 6.0], [-16.0, 4.0, -12.0], [3.0, 12.0, 16.0]])
WEIGHTS = np.array([1.0, 2.0, 3.0])
WIDTH = 5.0


def sampled(shape: tuple[int, int, int], basis: np.ndarray) -> np.ndarray:
    """Three Gaussians sampled at ``basis @ (index - n // 2)``, index in (x, y, z), stored (z, y, x): written out by hand."""
    out = np.zeros(shape)
    for k, j, i in np.ndindex(*shape):
        point = basis @ (np.array([i, j, k]) - np.array(shape[::-1]) // 2)
        squares = ((point - CENTRES) ** 2).sum(1)
        out[k, j, i] = WEIGHTS @ np.exp(-squares / (2 * WIDTH**2)) / (WIDTH * np.sqrt(2 * np.pi)) ** 3
    return out.astype(np.float32)


def expected(box: int, voxel_size: float) -> torch.Tensor:
    return render_points(CENTRES, WEIGHTS, WIDTH, box, voxel_size)


@pytest.mark.parametrize(("box", "voxel_size"), [(32, 3.0), (33, 2.5), (24, 5.0), (48, 1.9)])
@pytest.mark.parametrize(("shape", "sizes"), [((24, 30, 27), (4.0, 4.0, 4.0)), ((31, 26, 36), (3.0, 4.0, 3.5))])
def test_any_rectangular_box_is_resampled_exactly(tmp_path, box, voxel_size, shape, sizes):
    """Up and down, odd and even, larger and smaller than the source, voxels of one size or three; values are kept."""
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(sampled(shape, np.diag(sizes)))
        file.voxel_size = sizes
    density = DensityMap("a", tmp_path / "a.mrc").density(box, voxel_size)
    assert density.dtype == torch.float32
    oracle = expected(box, voxel_size)
    assert (density - oracle).abs().max() < 2e-3 * oracle.max()


def test_a_skew_cell_is_resampled_exactly(tmp_path):
    beta = np.radians(110)
    basis = np.array([[4.0, 0, 3.5 * np.cos(beta)], [0, 3.8, 0], [0, 0, 3.5 * np.sin(beta)]])
    with mrcfile.new(tmp_path / "a.map") as file:
        file.set_data(sampled((34, 26, 40), basis))
        file.voxel_size = (4.0, 3.8, 3.5)
        file.header.cellb.beta = 110
    specimen = DensityMap("a", tmp_path / "a.map")
    np.testing.assert_allclose(specimen.basis, basis, atol=1e-5)
    density = specimen.density(32, 3.0)
    assert (density - expected(32, 3.0)).abs().max() < 2e-3 * density.max()


@pytest.mark.parametrize("box", [16, 19, 24])
def test_the_same_field_of_view_on_fewer_voxels_is_the_fourier_crop(tmp_path, box):
    noise = torch.randn(32, 32, 32, generator=torch.Generator().manual_seed(0))
    write_map(tmp_path / "a.mrc", noise, 2.0)
    density = DensityMap("a", tmp_path / "a.mrc").density(box, 64 / box)
    assert (density - fourier_crop_volumes(noise, box)).abs().max() < 1e-5


def test_a_header_without_voxel_size_asks_for_the_option(tmp_path, data_directory):
    path = data_directory / "maps/clean70SRibosome_vol_65p.mrc"
    with pytest.raises(InputError, match=r"clean70S.*option voxel_size"):
        DensityMap("70S", path).density(32, 10.0)
    with pytest.raises(InputError, match="voxel_size above 0"):
        DensityMap("70S", path, voxel_size=-1.0).density(32, 10.0)
    specimen = DensityMap("70S", path, voxel_size=5.0)
    density = specimen.density(65, 5.0)
    original = torch.from_numpy(specimen.file.volume)
    assert float((density * original).sum() / (density.norm() * original.norm())) > 0.99
    assert specimen.density(32, 65 * 5 / 32).shape == (32, 32, 32)


def test_real_maps(data_directory):
    skew = DensityMap("EMD-3001", data_directory / "maps/EMD-3001.map")
    density = skew.density(72, 0.45)
    assert torch.isfinite(density).all()
    # the crystal's strongest peak keeps its height and its place: voxel (z, y, x) of the file, through the cell
    k, j, i = np.unravel_index(skew.file.volume.argmax(), skew.file.volume.shape)
    point = skew.basis @ (np.array([i, j, k]) - np.array(skew.file.volume.shape[::-1]) // 2)
    x, y, z = np.round(point / 0.45).astype(int) + 36
    assert density[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].max() > 0.9 * skew.file.volume.max()
    cubic = DensityMap("EMD-3197", data_directory / "maps/EMD-3197.map")
    assert cubic.density(20, 11.4).shape == (20, 20, 20)
    assert (
        float((cubic.density(40, 5.7)[::2, ::2, ::2] - cubic.density(20, 11.4)).abs().max())
        < 1e-5 * cubic.file.volume.max()
    )


def spoilt(path, **header):
    """A small map with fields of its header changed."""
    write_map(path, torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(0)), 2.0)
    with mrcfile.open(path, mode="r+", permissive=True) as file:
        for field, value in header.items():
            record, _, name = field.rpartition("_")
            (file.header[record] if record else file.header)[name] = value
    return DensityMap("a", path)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"nx": 2_000_000_000}, "a.mrc"),
        ({"nz": 900}, "truncated or foreign"),
        ({"cella_x": np.nan}, "cella of .*a.mrc"),
        ({"cella_x": 0.0}, "voxel size in the header of .*a.mrc.*option voxel_size"),
        ({"cella_y": -16.0}, "cella.*a.mrc"),
        ({"cellb_alpha": 170.0, "cellb_beta": 20.0}, "cell angles that make a cell in the header of .*a.mrc"),
        ({"cellb_alpha": np.nan}, "cellb of .*a.mrc"),
        ({"mapc": 2}, "MAPC, MAPR, MAPS of .*a.mrc"),
    ],
)
def test_headers_that_lie_are_named(tmp_path, header, problem):
    with pytest.raises(InputError, match=rf"(?s){problem}"):
        spoilt(tmp_path / "a.mrc", **header).density(8, 2.0)


def test_values_that_are_not_finite_are_named(tmp_path):
    write_map(tmp_path / "a.mrc", np.ones((4, 4, 4)), 2.0)
    whole = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(whole[:1024] + np.full(64, np.nan, np.float32).tobytes())
    with pytest.raises(InputError, match=r"finite values in .*a\.mrc, got 64 of 64"):
        DensityMap("a", tmp_path / "a.mrc").density(4, 2.0)


def test_angles_left_out_are_right_ones(tmp_path):
    left_out = spoilt(tmp_path / "a.mrc", cellb_alpha=0.0, cellb_beta=0.0, cellb_gamma=0.0).density(8, 2.0)
    assert torch.equal(left_out, spoilt(tmp_path / "a.mrc").density(8, 2.0))

"""Real noise patches beside particles cut from the same micrographs."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from cryobench.dataset.store import digest, open_store
from cryobench.errors import InputError
from cryobench.ingest.matching import MicrographOptions
from cryobench.ingest.micrographs import import_micrographs
from cryobench.ingest.options import ImportOptions
from cryobench.noise.extract import extract_noise
from cryobench.physics.grids import radius
from cryobench.physics.noise import radial_power
from cryobench.testing.micrographs import SimulatedMicrographs, simulate_micrographs
from cryobench.types import Volume

OPTIONS = ImportOptions(noise_patches=80, box=32)


@pytest.fixture(scope="module")
def sparse(specimen: Volume, tmp_path_factory: pytest.TempPathFactory) -> SimulatedMicrographs:
    """Micrographs with few particles and much noise."""
    return simulate_micrographs(
        tmp_path_factory.mktemp("sparse"), specimen, 7.0, count=2, shape=(560, 600), particles=12
    )


@pytest.fixture(scope="module")
def noise(sparse: SimulatedMicrographs) -> Path:
    path = sparse.boxes.parent / "noise.zarr"
    extract_noise(sparse.micrographs, sparse.boxes, path, box=44, edge=0, distance=0, per_micrograph=90)
    return path


def test_patches_are_treated_as_particles_are(sparse: SimulatedMicrographs, noise: Path, tmp_path: Path) -> None:
    path = import_micrographs(sparse.micrographs, sparse.boxes, sparse.ctf_star, tmp_path, OPTIONS, noise=noise)
    dataset = open_store(path, "observed")
    patches, half = torch.as_tensor(dataset["noise_patches"].values), dataset["patch_half"].values
    assert np.bincount(half).min() == 0
    count = int((half == 1).sum())
    assert 64 <= count <= 80
    assert (half == 2).sum() == count
    assert sorted(set(dataset["patch_micrograph"].values)) == [0, 1]
    background = patches[:, radius(32, 2, patches) > 0.4 * 32].double()
    assert_allclose(background.std(-1, correction=0), 1, rtol=1e-4)
    ratio = radial_power(patches)[2:16] / torch.as_tensor(dataset["noise_power"].values).mean(0)[2:16]
    assert abs(float(ratio.mean()) - 1) < 0.1
    assert dataset.attrs["import_options"]["noise_sha256"] == digest(open_store(noise, "noise"))
    flat = patches.flatten(1)
    alike = torch.nn.functional.cosine_similarity(flat[half == 1][:, None], flat[half == 2][None], dim=-1)
    assert float(alike.max()) < 0.5  # no patch is in both halves
    assert f"Real patches (noise.zarr): {count} for each half" in dataset.attrs["noise_note"]


def test_pools_that_cannot_be(sparse: SimulatedMicrographs, noise: Path, tmp_path: Path) -> None:
    def run(options: ImportOptions, cutting: MicrographOptions | None = None, path: Path = noise) -> None:
        import_micrographs(
            sparse.micrographs, sparse.boxes, sparse.ctf_star, tmp_path / "out", options, cutting, noise=path
        )

    with mrcfile.new(tmp_path / "few.mrcs") as file:
        file.set_data(np.random.default_rng(0).standard_normal((100, 44, 44)).astype(np.float32))
        file.voxel_size = 7.0
    with pytest.raises(InputError, match=r"few\.mrcs: expected at least 64 patches for each half .*, got 100 for both"):
        run(OPTIONS, path=tmp_path / "few.mrcs")
    (tmp_path / "few.mrcs").unlink()
    with pytest.raises(InputError, match=r"expected patches of at least the images' 80 px, got 44 px"):
        run(OPTIONS, MicrographOptions(extract=80))
    with pytest.raises(InputError, match="expected particles that are normalised"):
        run(OPTIONS, MicrographOptions(normalise=False))
    with pytest.raises(InputError, match="patches"):
        run(OPTIONS, MicrographOptions(pixel_size=5.0))
    assert_array_equal(list(tmp_path.iterdir()), [])

"""Noise, particles and CTFs of one micrograph, told apart by a ring of power that each micrograph has at its own frequency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cryobench.dataset.create import build_store
from cryobench.dataset.store import finish_store, open_store, put
from cryobench.errors import InputError
from cryobench.interop.ctf_tables import read_ctf_rows
from cryobench.physics.noise import colour
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.micrographs import draw_micrographs
from cryobench.scenario.noise import noise_sources
from cryobench.scenario.pairing import micrograph_numbers
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate

BOX, PIXEL = 32, 9.768
RINGS = (4, 7, 10, 13)
"""Shell of a patch that holds each micrograph's ring, by the micrograph's number in its name."""


def noise_store(path: Path, order: tuple[int, ...], each: int = 70) -> Path:
    """Patches of micrographs ``mic-N``, in the given order."""
    count = each * len(order)
    shapes = {"patches": (count, BOX, BOX), "position": (count, 2), "radial_power": (BOX // 2 + 1,)}
    shapes |= dict.fromkeys(("patch_mean", "patch_deviation", "patch_micrograph"), (count,))
    names = [f"mic-{n}.mrc" for n in order]
    attributes = {
        "voxel_size": PIXEL,
        "contrast": "protein bright",
        "micrographs": names,
        "sources": [],
        "noise_note": "",
    }
    with build_store(path, "noise", shapes, attributes) as group:
        for row, n in enumerate(order):
            power = torch.full((BOX // 2 + 1,), 0.02)
            power[RINGS[n]] = 10
            white = torch.randn(each, BOX, BOX, generator=torch.Generator().manual_seed(n))
            images = colour(white, power)
            put(group, "patches", (images / images.std((-2, -1), keepdim=True)).numpy(), row * each)
            put(group, "patch_micrograph", np.full(each, row, np.int32), row * each)
        finish_store(group)
    return path


def ctf_table(path: Path, numbers: tuple[int, ...], suffix: str = ".mrc") -> Path:
    """CTFFIND4 results of micrographs ``mic-N`` with a defocus of 10,000 Å and N times 1,000 Å."""
    lines = [f"Micrographs/mic-{n}{suffix} 1 {10000 + 1000 * n} {10000 + 1000 * n} 0 0 0.1 3.0" for n in numbers]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def paired(store: Path, table: Path, *settings: str) -> Scenario:
    chosen = ["noise.kind=patches", f"noise.path={store}", "noise.pair=true", "image.box=24", *settings]
    return adapt_scenario("tiny", ctf_table=table, snr_db=-40.0, settings=chosen)


def ring_of(images: NDArray[np.float32], side: float) -> NDArray[np.int64]:
    """Which of the rings each image has most power in, relative to the others; ``side`` of the image over that of a patch."""
    power = np.abs(np.fft.fft2(images)) ** 2
    k = np.fft.fftfreq(images.shape[-1], 1 / images.shape[-1])
    radius = np.hypot(k[:, None], k)
    strength = [power[:, np.abs(radius - ring * side) < 1.0].mean(1) for ring in RINGS]
    return np.argmax(strength, axis=0)


def test_a_particle_has_noise_and_ctf_of_one_micrograph(tmp_path: Path) -> None:
    # neither in the same order, and both know micrographs that the other does not
    store = noise_store(tmp_path / "noise.zarr", (2, 0, 1, 3))
    table = ctf_table(tmp_path / "ctf.txt", (9, 1, 2, 8, 0), "_PS.txt")
    simulate(paired(store, table), tmp_path / "run", seed=2)
    observed = open_store(tmp_path / "run" / "observed.zarr", "observed")
    rings = ring_of(observed["images"].values, 24 / BOX)
    assert set(rings) == {0, 1, 2}  # micrograph 3 has no CTF, so its patches are left out
    np.testing.assert_array_equal(observed["defocus_u"].values, 10000 + 1000 * rings)
    np.testing.assert_array_equal(observed["micrograph"].values, np.array([4, 1, 2])[rings])
    patch_rings = ring_of(observed["noise_patches"].values, 24 / BOX)
    np.testing.assert_array_equal(observed["patch_micrograph"].values, np.array([4, 1, 2])[patch_rings])
    assert "A particle has the CTF of its patch's micrograph; 210 patches" in observed.attrs["noise_note"]
    # every micrograph has its share
    assert np.bincount(rings).min() > 192 / 3 - 30


def test_paired_patches_are_turned_by_half_turns_alone(tmp_path: Path) -> None:
    """Rings of an astigmatic CTF lie along their axis before and after."""
    scenario = paired(noise_store(tmp_path / "noise.zarr", (0, 1, 2, 3)), ctf_table(tmp_path / "ctf.txt", (0, 1, 2, 3)))
    sources, _ = noise_sources(scenario)
    assert sources["noise"].turns == (0, 2)
    free = scenario.model_copy(update={"noise": scenario.noise.model_copy(update={"pair": False})})
    assert noise_sources(free)[0]["noise"].turns == tuple(range(8))


def test_patches_that_are_not_paired_say_their_micrograph_all_the_same(tmp_path: Path) -> None:
    store = noise_store(tmp_path / "noise.zarr", (0, 1, 2, 3))
    settings = ["noise.kind=patches", f"noise.path={store}", "image.box=24"]
    scenario = adapt_scenario("tiny", snr_db=-40.0, settings=settings)
    simulate(scenario, tmp_path / "run", seed=2)
    observed = open_store(tmp_path / "run" / "observed.zarr", "observed")
    count = len(draw_micrographs(scenario.ctf, 0))
    rings = ring_of(observed["noise_patches"].values, 24 / BOX)
    # numbers of their own, which no particle has
    np.testing.assert_array_equal(observed["patch_micrograph"].values, count + rings)
    assert observed["micrograph"].values.max() < count


def test_generated_noise_has_no_micrograph(tmp_path: Path) -> None:
    store = noise_store(tmp_path / "noise.zarr", (0, 1), each=10)
    settings = ["noise.kind=patches", f"noise.path={store}"]
    sources, note = noise_sources(adapt_scenario("tiny", settings=settings))
    assert (sources["pool-1"].micrographs(0, "pool-1", 0, 5) == -1).all()
    assert "20 taken of 2 micrographs, 20 of them independent, in disjoint pools of 7 (data), 7" in note
    assert "filled by a generator" in note


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    store = noise_store(tmp_path / "noise.zarr", (0, 1, 2, 3))
    with pytest.raises(InputError, match=r"names none of the patches' \(mic-0.mrc"):
        noise_sources(paired(store, ctf_table(tmp_path / "other.txt", (7, 8))))
    with pytest.raises(InputError, match="got CTFs of kind 'uniform'"):
        noise_sources(adapt_scenario("tiny", settings=["noise.kind=patches", f"noise.path={store}", "noise.pair=true"]))
    with pytest.raises(InputError, match="at least 64 patches in each of 3 pools to pair particles with, got 46"):
        noise_sources(paired(store, ctf_table(tmp_path / "few.txt", (0, 1))))
    with pytest.raises(InputError, match="expected pair or whiten"):
        paired(store, ctf_table(tmp_path / "all.txt", (0, 1, 2, 3)), "noise.whiten=true")


def test_names_of_micrographs_are_found_in_every_kind_of_table(tmp_path: Path, data_directory: Path) -> None:
    star = tmp_path / "ctf.star"
    star.write_text(
        "data_\nloop_\n_rlnMicrographName #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n_rlnDefocusAngle #4\n"
        "a/mic-1.mrc 11000 11000 0\na/mic-0.mrc 10000 10000 0\na/mic-2.mrc 11000 11000 0\n",
        encoding="utf-8",
    )
    assert read_ctf_rows(star).micrographs == {"a/mic-1.mrc": 0, "a/mic-0.mrc": 1, "a/mic-2.mrc": 0}
    table = read_ctf_rows(data_directory / "cryogan_betagal" / "ctf-betagal-all-3185.txt")
    assert len(table.micrographs) == 1539
    scenario = adapt_scenario("tiny", ctf_table=data_directory / "cryogan_betagal" / "ctf-betagal-all-3185.txt")
    numbers, count = micrograph_numbers(["EMD-2984_0000.mrc", "nobody.mrc"], scenario.ctf)
    assert count == 1528
    assert numbers[1] == count + 1
    assert float(draw_micrographs(scenario.ctf, 0).defocus_u[numbers[0]]) == pytest.approx(7923.343262)

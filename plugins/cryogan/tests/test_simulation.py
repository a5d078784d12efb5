from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cryobench_cryogan.images import Order, RealImages, measure_scale
from cryobench_cryogan.method import Params
from cryobench_cryogan.noise import Noise, Partners
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.prepare import keep_disc, prepare, smooth
from cryobench_cryogan.simulator import Simulator
from cryobench_cryogan.train import Trainer

from cryobench.dataset.view import Observed
from cryobench.physics.project import transform_volume
from cryobench.physics.symmetry import symmetrise

CPU = torch.device("cpu")


def noise_images(count: int, box: int) -> torch.Tensor:
    return torch.randn(count, box, box, generator=torch.Generator().manual_seed(0)) + 5


def test_kept_disc_has_no_mean_and_no_corners() -> None:
    kept = keep_disc(noise_images(3, 16))
    assert kept.mean((-2, -1)).abs().max() < 1e-5
    torch.testing.assert_close(keep_disc(kept), kept, rtol=0, atol=1e-5)
    assert torch.fft.rfft2(kept)[:, 8, 8].abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["disc", "image"])
def test_preparing_twice_changes_nothing_and_smoothing_commutes(kind: str) -> None:
    images = noise_images(3, 16)
    once = prepare(images, kind)
    torch.testing.assert_close(prepare(once, kind), once, rtol=0, atol=1e-5)
    # what is held prepared and smoothed later is what is smoothed first
    scale = prepare(images, kind, 1.5).std((-2, -1), keepdim=True)
    later = prepare(once, kind, 1.5)
    torch.testing.assert_close(
        later / later.std((-2, -1), keepdim=True) * scale, prepare(images, kind, 1.5), atol=1e-5, rtol=0
    )


def test_standardised_images_have_mean_zero_and_variance_one() -> None:
    images = prepare(noise_images(4, 32) * 3, "image")
    assert images.mean((-2, -1)).abs().max() < 1e-5
    torch.testing.assert_close(images.std((-2, -1)), torch.ones(4), rtol=1e-4, atol=0)


def test_smoothing_spreads_a_point_as_a_gaussian() -> None:
    point = torch.zeros(1, 32, 32)
    point[0, 16, 16] = 1
    width, y = 2.0, torch.arange(32.0) - 16
    row = torch.exp(-(y**2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))
    torch.testing.assert_close(smooth(point, width)[0], row[:, None] * row, rtol=0, atol=1e-5)


def test_partners_come_from_the_patch_s_own_micrograph() -> None:
    particles = torch.tensor([4, 2, 4, 9, 2, 4])
    patches = torch.tensor([2, 7, 4, -50, 9])
    partners = Partners(particles, patches, CPU)
    assert partners.patches.tolist() == [0, 2, 4]  # nothing else has particles
    uniform = torch.linspace(0, 1, 101)
    for patch, micrograph in enumerate((2, 4, 9)):
        chosen = partners.choose(torch.full((101,), patch), uniform)
        assert set(chosen.tolist()) == set(torch.nonzero(particles == micrograph).squeeze(-1).tolist())


def test_paired_noise_is_drawn_with_the_ctf_of_its_micrograph(observed: Observed) -> None:
    observed.micrographs = torch.arange(len(observed)) % 5
    observed.patch_micrographs = torch.arange(len(observed.noise_patches)) % 7
    noise = Noise(observed, "paired", normalise=False, data_scale=1.0, device=CPU)
    rows, images = noise.draw(200, torch.Generator().manual_seed(0), Team())
    for row, image in zip(rows.tolist(), images, strict=True):
        (patch,) = torch.nonzero((observed.noise_patches == image).all((-2, -1))).squeeze(-1).tolist()
        assert observed.micrographs[row] == observed.patch_micrographs[patch]


def test_pairing_falls_back_where_patches_have_no_micrograph(observed: Observed) -> None:
    observed.micrographs = torch.zeros(len(observed))
    observed.patch_micrographs = torch.full((len(observed.noise_patches),), -1)
    assert Noise(observed, "paired", normalise=False, data_scale=1.0, device=CPU).kind == "patches"


def test_whole_pixel_shifts_are_whole(observed: Observed, small: Callable[..., Params]) -> None:
    """A point in the middle, seen without CTF or noise, lands on one pixel when shifts are whole, and between them else."""
    observed.assumed_shift = {"kind": "triangular", "half_width": 4 * observed.voxel_size}
    observed.ctf = type(observed.ctf)(
        **{name: torch.zeros_like(v) for name, v in vars(observed.ctf).items()}
        | {"amplitude_contrast": torch.full_like(observed.ctf.voltage, 1 - 1e-7), "voltage": observed.ctf.voltage}
    )
    peaks = {}
    for whole in (True, False):
        generator = torch.Generator().manual_seed(1)
        params = small(whole_pixel_shifts=whole, symmetrise=False)
        simulator = Simulator(observed, params, 1.0, generator, Team())
        with torch.no_grad():
            simulator.values[8, 8, 8] = 1
            simulator.log_noise.fill_(-50)
            images, rows = simulator(64)
        assert rows.shape == (64,)
        peaks[whole] = images.amax((-2, -1)) / images.amax()
    assert peaks[True].min() > 0.999
    assert peaks[False].min() < 0.8


@pytest.mark.parametrize("place", ["host", "store"])
@pytest.mark.parametrize("kind", ["disc", "image"])
def test_images_read_ahead_are_those_on_the_device(observed: Observed, kind: str, place: str) -> None:
    order, scale = Order(5, len(observed), 16, shuffle=True), measure_scale(observed, kind)
    held, read = (
        RealImages(observed, order, kind, scale, embed, where, slice(4, 12), CPU) for where in ("device", place)
    )
    try:
        for number in (0, 1, 2, 9, 3):  # going on, ahead, and back
            batch, particles = held.batch(number)
            assert batch.shape == (8, 16, 8)
            assert torch.equal(particles, order(number)[4:12])
            again, same_particles = read.batch(number)
            torch.testing.assert_close(again, batch, rtol=0, atol=1e-5)
            assert torch.equal(same_particles, particles)
            images = prepare(observed.read(particles.numpy()).images, kind)
            torch.testing.assert_close(batch, embed(images if kind == "image" else images / scale), rtol=0, atol=1e-5)
    finally:
        read.close()


def embed(images: torch.Tensor) -> torch.Tensor:
    """Features that are not images: half of their columns."""
    return images[:, :, ::2]


@pytest.mark.parametrize("box", [16, 8])
def test_the_scale_is_that_of_the_prepared_images(observed: Observed, box: int) -> None:
    coarse = observed.coarsen(box)
    images = coarse.read(slice(None)).images
    assert measure_scale(coarse, "disc") == pytest.approx(float(prepare(images, "disc").std()), rel=1e-4)
    assert measure_scale(coarse, "image") == pytest.approx(float(images.std((-2, -1)).mean()), rel=1e-4)


def test_the_volume_is_imaged_with_its_symmetry_and_without_what_lies_outside(
    observed: Observed, small: Callable[..., Params]
) -> None:
    draw = torch.Generator().manual_seed(2)
    start = torch.rand(16, 16, 16, generator=draw)
    for symmetric in (True, False):
        params = small(symmetrise=symmetric, mask_radius=0.8)
        simulator = Simulator(observed, params, 1.0, draw, Team())
        with torch.no_grad():
            simulator.values.copy_(start)
            inside = simulator.constrained(simulator.values)
            seen = simulator.transform().values
        turned = inside[:, 1:, 1:].flip(1, 2)  # by 180 degrees around z: the centre is voxel 8
        assert torch.allclose(turned, inside[:, 1:, 1:], atol=1e-5) == symmetric
        assert inside[0].abs().max() == 0
        assert torch.equal(seen, transform_volume(inside, observed.voxel_size).values)


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_a_step_leaves_a_symmetric_volume_without_negative_densities(
    preset: str, observed: Observed, small: Callable[..., Params], recording_run: Callable[..., Any]
) -> None:
    for nonnegative in (True, False):
        params = small(preset=preset, epochs=None, nonnegative=nonnegative)
        trainer = Trainer(observed, params, recording_run())
        for _ in range(3):
            trainer.take_step()
            assert (float(trainer.state.simulator.values.detach().min()) >= 0) == nonnegative
        volume = trainer.volume()
        assert float(volume.abs().max()) > 0
        gap = float((symmetrise(volume, "D2") - volume).abs().max())
        assert gap < 1e-4 * float(volume.abs().max())


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_the_scales_of_signal_and_noise_are_learned(
    preset: str, observed: Observed, small: Callable[..., Params], recording_run: Callable[..., Any]
) -> None:
    trainer = Trainer(observed, small(preset=preset, epochs=None), recording_run())
    for _ in range(4):
        measured = trainer.take_step()
    simulator = trainer.state.simulator
    for name, logarithm in (("signal_scale", simulator.log_signal), ("noise_scale", simulator.log_noise)):
        assert abs(float(logarithm.detach())) > 1e-4
        assert measured[name] == pytest.approx(math.exp(float(logarithm.detach())))


def test_images_are_scaled_signal_and_scaled_noise(observed: Observed, small: Callable[..., Params]) -> None:
    """Linear in the exponentials of both logarithms, where images are not brought to variance 1 afterwards."""

    def imaged(log_signal: float, log_noise: float) -> torch.Tensor:
        simulator = Simulator(observed, small(), 1.0, torch.Generator().manual_seed(3), Team())
        with torch.no_grad():
            simulator.values.fill_(1.0)
            simulator.log_signal.fill_(log_signal)
            simulator.log_noise.fill_(log_noise)
            return simulator(4)[0]

    signal, noise = imaged(0.0, -50.0), imaged(-50.0, 0.0)
    assert min(float(part.std()) for part in (signal, noise)) > 0.01
    torch.testing.assert_close(imaged(math.log(3), math.log(2)), 3 * signal + 2 * noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["spectrum", "patches", "paired"])
def test_members_of_a_team_form_the_parts_of_one_batch(
    kind: str, observed: Observed, small: Callable[..., Params], name_micrographs: Callable[[Observed], None]
) -> None:
    """Poses, particles, patches and their turns: the shares of two, put together, are the batch of one."""
    name_micrographs(observed)

    def member(rank: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        team = Team()
        team.rank, team.size = rank, size
        simulator = Simulator(observed, small(noise=kind), 1.0, torch.Generator().manual_seed(1), team)
        with torch.no_grad():
            simulator.values[6:10, 7:9, 8:13] = 1
            return simulator(8)

    images, rows = member(0, 1)
    shared_images, shared_rows = map(torch.cat, zip(member(0, 2), member(1, 2), strict=True))
    assert torch.equal(shared_rows, rows)
    torch.testing.assert_close(shared_images, images, rtol=0, atol=1e-5)

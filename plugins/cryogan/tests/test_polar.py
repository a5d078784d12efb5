"""Laws of the transform to rings: what turning, reflecting and multiplying images does to their coefficients."""

from __future__ import annotations

import math

import pytest
import torch
from cryobench_cryogan.polar import PolarTransform
from torch import Tensor

BOXES = [16, 32, 33, 48]


def ripple(box: int, x: float, y: float, width: float) -> Tensor:
    """A Gaussian less a wider one, without mean: centred at ``(x, y)`` pixels from the origin."""
    place = torch.arange(box).double() - box // 2
    squares = (place - x) ** 2 + (place[:, None] - y) ** 2
    return torch.exp(-squares / (2 * width**2)) - torch.exp(-squares / (2 * (1.5 * width) ** 2)) / 1.5**2


def coefficients(polar: PolarTransform, images: Tensor) -> Tensor:
    return torch.view_as_complex(polar(images))


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def make(box: int) -> PolarTransform:
    """In double precision, its tables too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return PolarTransform(box, 0.9)
    finally:
        torch.set_default_dtype(before)


@pytest.fixture(params=BOXES)
def polar(request: pytest.FixtureRequest) -> PolarTransform:
    return make(request.param)


def test_is_linear(polar: PolarTransform) -> None:
    a, b = draw(2, 3, polar.box, polar.box)
    torch.testing.assert_close(polar(2 * a - 3 * b), 2 * polar(a) - 3 * polar(b))


def test_gradients_are_the_adjoint(polar: PolarTransform) -> None:
    images = draw(2, polar.box, polar.box).requires_grad_(True)
    found = polar(images)
    weights = draw(*found.shape)
    (back,) = torch.autograd.grad(found, images, weights)
    forth, scale = (found * weights).sum(), found.norm() * weights.norm()
    assert abs(float(((images * back).sum() - forth).detach())) < 1e-12 * float(scale.detach())
    assert bool(back.any())


def test_a_quarter_turn_multiplies_harmonics(polar: PolarTransform) -> None:
    """Exactly: no sample lies elsewhere afterwards. From x to y, which a quarter turn of an array undoes."""
    box, odd = polar.box, polar.box // 2 * 2 - 1  # pixels on both sides of the origin
    image = draw(odd, odd)
    before, after = torch.zeros(2, box, box, dtype=torch.float64)
    inner = slice(box // 2 - odd // 2, box // 2 + odd // 2 + 1)
    before[inner, inner], after[inner, inner] = image, torch.rot90(image, -1)
    one, other = coefficients(polar, torch.stack([before, after]))
    harmonic = (polar.slots // polar.rings).double()
    torch.testing.assert_close(one * torch.exp(-0.5j * math.pi * harmonic), other)


@pytest.mark.parametrize("degrees", [17, 90, 211])
def test_turning_multiplies_harmonics(degrees: int) -> None:
    """By any angle, as well as linear interpolation between samples allows."""
    polar, angle = make(48), math.radians(degrees)
    turned = ripple(48, 11 * math.cos(angle), 11 * math.sin(angle), 2)
    one, other = coefficients(polar, torch.stack([ripple(48, 11, 0, 2), turned]))
    expected = one * torch.exp(-1j * angle * (polar.slots // polar.rings).double())
    assert float((expected - other).norm() / other.norm()) < 0.04
    assert float((one - other).norm() / other.norm()) > 0.5


def test_reflecting_conjugates(polar: PolarTransform) -> None:
    image = draw(polar.box, polar.box)
    if polar.box % 2 == 0:
        image[0] = 0  # the row without a partner
    reflected = image.flip(0) if polar.box % 2 else image.flip(0).roll(1, 0)
    one, other = coefficients(polar, torch.stack([image, reflected]))
    torch.testing.assert_close(one.conj(), other)


@pytest.mark.parametrize("box", [32, 33, 64])
def test_scalar_products_are_kept(box: int) -> None:
    """Of images that are band-limited and lie in the disc."""
    polar = make(box)
    images = torch.stack([ripple(box, *place, 2) for place in ((0.2 * box, 3), (-4, 0.1 * box), (1, -2))])
    images[2] += images[0]
    found = polar(images).flatten(1)
    expected = images.flatten(1) @ images.flatten(1).T
    assert float((found @ found.T - expected).norm() / expected.norm()) < 0.03


@pytest.mark.parametrize("box", [32, 33])
def test_white_noise_has_about_unit_variance(box: int) -> None:
    """Real and imaginary part each; harmonic 0 is real for noise as for any image on the origin's half turn."""
    polar = PolarTransform(box, 0.9)
    noise = torch.randn(1000, box, box, generator=torch.Generator().manual_seed(0))
    variance = polar(noise).var(0)
    ring, harmonic = polar.slots % polar.rings + 1, polar.slots // polar.rings
    well_inside = (harmonic > 0) & (harmonic < math.pi * ring / 2)
    assert 0.95 < float(variance[well_inside].mean()) < 1.25
    assert float(variance[well_inside].amin()) > 0.8
    assert float(variance[well_inside].amax()) < 1.5


def test_harmonics_are_those_of_the_disc() -> None:
    """A wider disc takes more of them; every ring has its own number, and all of them lie in the table."""
    narrow, wide = PolarTransform(32, 0.5), PolarTransform(32, 0.9)
    assert narrow.rings == wide.rings == 15
    assert narrow.harmonics < wide.harmonics
    count = torch.bincount(wide.slots % wide.rings)
    assert (count.diff() > 0).all()
    assert int(count[-1]) == wide.harmonics
    assert int(wide.slots[-1]) == wide.harmonics * wide.rings - 1

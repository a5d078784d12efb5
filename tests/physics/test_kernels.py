"""The compiled way of imaging, held against the plain PyTorch one in double precision."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics import kernels
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.detector import DetectorTransfer
from cryobench.physics.grids import inside_nyquist
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.padded import transform_padded, transpose_padded, zeros
from cryobench.physics.project import VolumeSpectrum, slice_spectrum, transform_volume
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions

VOXEL = 4.0
TOLERANCE = 2e-5
"""Of the norm: what single precision leaves of coordinates of some tens of samples."""


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transfer(seed: int, count: int) -> ContrastTransfer:
    u = draw(seed, 8, count).abs().clamp(max=2) / 2
    return ContrastTransfer(
        1e4 + 1e4 * u[0], 1e4 + 1e4 * u[1], 3 * u[2], 200 + 100 * u[3], 2.7 * u[4], 0.2 * u[5], u[6], 100 * u[7]
    )


def operator(seed: int, box: int, image_box: int, slicing: str, parts: str, count: int = 3) -> ImagingOperator:
    rotations = quaternion_to_matrix(uniform_quaternions(count, torch.Generator().manual_seed(seed), torch.float64))
    return ImagingOperator(
        box,
        VOXEL,
        rotations.float().double(),  # the same rotations for both precisions
        10 * draw(seed, count, 2) if "S" in parts else None,
        transfer(seed, count) if "C" in parts else None,
        image_box=image_box,
        slicing=slicing,  # type: ignore[arg-type]
        detector=DetectorTransfer(torch.tensor([0.0, 0.1, 0.3]), torch.tensor([1.0, 0.7, 0.2]))
        if "D" in parts
        else None,
    )


def near(single: Tensor, double: Tensor) -> bool:
    return bool((single - double).norm() <= TOLERANCE * double.norm())


cases = given(
    seed=st.integers(0, 2**31),
    box=st.integers(4, 17),
    smaller=st.integers(0, 3),
    slicing=st.sampled_from(["image", "padded"]),
    parts=st.sampled_from(["", "C", "S", "CS", "CSD"]),
)


@cases
def test_images_and_spectra_are_those_of_the_plain_way(
    seed: int, box: int, smaller: int, slicing: str, parts: str
) -> None:
    a, x = operator(seed, box, max(box - smaller, 3), slicing, parts), draw(seed, box, box, box)
    images = a(x.float())
    assert images.dtype == torch.float32
    assert near(images, a(x))
    assert near(a.spectra(a.transform(x.float())), a.spectra(a.transform(x)))


@cases
def test_the_adjoint_is_exact_and_that_of_the_plain_way(
    seed: int, box: int, smaller: int, slicing: str, parts: str
) -> None:
    a = operator(seed, box, max(box - smaller, 3), slicing, parts)
    x = draw(seed, box, box, box).float()
    y = draw(seed + 1, 3, a.image_box, a.image_box).float()
    ax, aty = a(x), a.T(y)
    assert near(aty, a.T(y.double()))
    assert abs((ax.double() * y).sum() - (x.double() * aty).sum()) <= 1e-5 * ax.norm() * y.norm()


@cases
def test_slices_and_their_transpose_match_to_rounding(
    seed: int, box: int, smaller: int, slicing: str, parts: str
) -> None:
    """On the table itself, whose values a transform need not have made: weights out and in are the same."""
    a = operator(seed, box, max(box - smaller, 3), slicing, parts)
    shape = a.transform(draw(0, box, box, box).float()).values.shape
    table = draw(seed, *shape).float().requires_grad_()
    spectra = torch.view_as_real(a.spectra(VolumeSpectrum(table, shape[2] - 1, a.padding)))
    y = draw(seed + 1, *spectra.shape).float()
    (gradient,) = torch.autograd.grad(spectra, table, y)
    forward, backward = (spectra.double() * y).sum(), (table.double() * gradient).sum()
    assert abs(forward - backward) <= 1e-6 * spectra.norm() * y.norm()


def test_derivatives_of_every_order_and_what_they_are_of() -> None:
    a = operator(0, 8, 7, "image", "CS")
    x, z = draw(0, 8, 8, 8).float().requires_grad_(), draw(1, 8, 8, 8).float()
    (first,) = torch.autograd.grad(a(x).square().sum(), x, create_graph=True)
    assert near(first, 2 * a.T(a(x.detach())).double())
    (second,) = torch.autograd.grad((first * z).sum(), x)
    assert near(second, 2 * a.T(a(z)).double())


@pytest.mark.parametrize("wanted", ["rotations", "shifts", "defocus_u"])
def test_gradients_of_the_geometry_are_had_in_single_precision_too(wanted: str) -> None:
    a, x = operator(0, 8, 8, "image", "CS"), draw(0, 8, 8, 8)
    assert a.ctf is not None
    assert a.shifts is not None

    def loss(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        given = {"rotations": a.rotations, "shifts": a.shifts, "defocus_u": a.ctf.defocus_u}  # type: ignore[union-attr]
        leaf = given[wanted].to(dtype).requires_grad_()
        given = {name: leaf if name == wanted else part.to(dtype) for name, part in given.items()}
        ctf = ContrastTransfer.stack({**vars(a.ctf), "defocus_u": given["defocus_u"]})
        moved = ImagingOperator(8, VOXEL, given["rotations"], given["shifts"], ctf)
        images = moved(x.to(dtype))
        return images, torch.autograd.grad((images * draw(2, 3, 8, 8)).sum(), leaf)[0]

    (images, gradient), (exact, expected) = loss(torch.float32), loss(torch.float64)
    assert near(images, exact)
    assert (gradient - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("parts", ["", "CS"])
def test_an_empty_batch(parts: str) -> None:
    a, x = operator(0, 6, 6, "image", parts, count=0), draw(0, 6, 6, 6).float()
    assert a(x).shape == (0, 6, 6)
    assert a.spectra(a.transform(x)).shape == (0, 6, 4)
    assert torch.equal(a.T(a(x)), torch.zeros(6, 6, 6))


def test_slices_keep_leading_batch_axes() -> None:
    rotations = quaternion_to_matrix(uniform_quaternions(40, torch.Generator().manual_seed(0))).reshape(4, 10, 3, 3)
    spectrum = transform_volume(draw(0, 6, 6, 6).float(), VOXEL)
    slices = slice_spectrum(spectrum, rotations, 6)
    assert slices.shape == (4, 10, 6, 4)
    assert torch.equal(slices[1, 2], slice_spectrum(spectrum, rotations[1, 2], 6))


def test_the_same_bits_every_time_and_from_any_thread() -> None:
    a, x = operator(0, 16, 16, "image", "CS", count=40), draw(0, 16, 16, 16).float()
    spectrum = a.transform(x)
    images = a.image(spectrum)
    volume = a.T(images)
    # FFTs differ in their last bits with torch's threads, whose number each thread of a pool has to be told
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        assert all(torch.equal(again, images) for again in pool.map(a.image, [spectrum] * 12))
        assert all(torch.equal(again, volume) for again in pool.map(a.T, [images] * 12))


@given(seed=st.integers(0, 2**31), box=st.integers(4, 17), parts=st.sampled_from(["", "C", "S", "CSD"]))
def test_inserted_sums_are_those_of_the_plain_way(seed: int, box: int, parts: str) -> None:
    a, images = operator(seed, box, box, "image", parts), draw(seed, 3, box, box)
    precision = draw(seed, box, box // 2 + 1).abs()
    shape = (*a.transform(draw(0, box, box, box)).values.shape[:3], 3)
    single, double = torch.zeros(shape), torch.zeros(shape, dtype=torch.float64)
    for _ in range(2):  # they add up
        a.insert(images.float(), precision.float(), single)
        a.insert(images, precision, double)
    assert near(single[..., :2], double[..., :2])
    assert near(single[..., 2], double[..., 2])


def test_inserted_data_are_the_transpose_of_slicing() -> None:
    """With a precision of one and no transfer: ``<S V, F> = <V, sums>`` over whole spectra, partners counted."""
    a = operator(0, 8, 8, "image", "")
    table, images = draw(0, 17, 17, 9, 2), draw(1, 3, 8, 8)
    sums = torch.zeros(17, 17, 9, 3, dtype=torch.float64)
    a.insert(images, torch.ones(8, 5, dtype=torch.float64), sums)
    slices = slice_spectrum(VolumeSpectrum(table, 8, 2), a.rotations, 8)
    of_images = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))
    product = (slices.conj() * of_images).real
    product[..., 0] *= 0.5
    assert (table * sums[..., :2]).sum() == pytest.approx(product.sum().item(), rel=1e-10)


def test_insertion_refuses_padded_slices() -> None:
    with pytest.raises(InputError, match="expected an operator with slicing='image'"):
        operator(0, 6, 6, "padded", "").insert(torch.zeros(3, 6, 6), torch.ones(6, 4), torch.zeros(13, 13, 7, 3))


@given(seed=st.integers(0, 2**31), pixel=st.floats(0.5, 4), box=st.integers(3, 40))
def test_ctfs_to_a_hundred_thousandth(seed: int, pixel: float, box: int) -> None:
    """Up to 10 micrometres of defocus, whose phase turns hundreds of times."""
    ctf = transfer(seed, 2)
    ctf = ContrastTransfer.stack({**vars(ctf), "defocus_u": 1e5 * draw(seed, 2).abs().clamp(max=1)})
    single = ctf.to(torch.zeros(1))
    found, expected = single.evaluate(box, pixel), single.to(torch.zeros(1, dtype=torch.float64)).evaluate(box, pixel)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("box", [1, 2, 5, 6, 31, 64, 257])
def test_rows_end_with_the_nyquist_disc(box: int) -> None:
    inside = inside_nyquist(box, torch.zeros(1, dtype=torch.float64))
    lengths = [kernels.row_length(row if 2 * row < box else row - box, box) for row in range(box)]
    assert lengths == inside.sum(-1).tolist()


@pytest.mark.parametrize(
    ("n", "padded", "reach"), [(4, 8, 4), (5, 10, 5), (5, 10, 3), (5, 5, 3), (4, 12, 3), (3, 9, 5)]
)
def test_the_padded_transform_is_its_sum(n: int, padded: int, reach: int) -> None:
    volume = draw(0, n, n, n)
    p = torch.arange(n, dtype=torch.float64) - n // 2
    full = torch.arange(-reach, reach + 1, dtype=torch.float64)
    waves = [torch.exp(-2j * torch.pi * k[:, None] * p / padded) for k in (full, full, full[reach:])]
    expected = torch.view_as_real(torch.einsum("zyx,cz,by,ax->cba", volume + 0j, *waves))
    assert torch.allclose(transform_padded(volume, padded, reach), expected, atol=1e-12)
    table = draw(1, *expected.shape)
    forward, backward = (expected * table).sum(), (volume * transpose_padded(table, padded, n)).sum()
    assert forward.item() == pytest.approx(backward.item(), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("shape", [(3, 2), (2**12, 2**12)])  # the latter from the C library's fresh memory
def test_zeros_are_like_their_model(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    found = zeros(shape, torch.ones(1, dtype=dtype))
    assert found.dtype == dtype
    assert found.shape == shape
    assert not found[-1].any()


def test_importing_compiles_nothing_and_the_command_line_does_not_even_import() -> None:
    code = (
        "import sys\n"
        "from cryobench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'numba' not in sys.modules\n"
        "from cryobench.physics import imaging, kernels\n"
        "compiled = [f for f in vars(kernels).values() if getattr(f, 'signatures', None)]\n"
        "assert not compiled, compiled\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_place_for_its_cache_a_function_is_compiled_anyway() -> None:
    namespace: dict[str, object] = {}
    exec("def double(x):\n    return x + x\n", namespace)  # of no file, so that there is nowhere to keep it beside
    double = kernels.compiled(namespace["double"])  # type: ignore[type-var]
    assert double(np.float32(2)) == 4  # type: ignore[operator]

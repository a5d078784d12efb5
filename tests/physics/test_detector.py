"""A detector's transfer function on the frequencies of images."""

from __future__ import annotations

import pytest
import torch

from cryobench.errors import InputError
from cryobench.physics.detector import DetectorTransfer

SAMPLES = torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64), torch.tensor([1.0, 0.8, 0.2], dtype=torch.float64)


def test_it_is_linear_between_its_samples_and_constant_beyond() -> None:
    asked = torch.tensor([0.0, 0.05, 0.1, 0.25, 0.3, 5.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 0.9, 0.8, 0.35, 0.2, 0.2], dtype=torch.float64)
    torch.testing.assert_close(DetectorTransfer(*SAMPLES).at(asked), expected)
    alone = DetectorTransfer(torch.tensor([0.2]), torch.tensor([0.5])).at(torch.tensor([[0.0, 1.0]]))
    assert alone.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("box", [7, 8])
def test_on_an_image_it_depends_on_the_frequency_alone(box: int, device: torch.device) -> None:
    like = torch.zeros(1, device=device)
    values = DetectorTransfer(*SAMPLES).evaluate(box, 2.5, like)
    assert (values.shape, values.dtype, values.device) == ((box, box // 2 + 1), torch.float32, like.device)
    ky, kx = torch.meshgrid(torch.fft.fftfreq(box), torch.fft.rfftfreq(box), indexing="ij")
    expected = DetectorTransfer(*SAMPLES).at((kx**2 + ky**2).sqrt() / 2.5)
    torch.testing.assert_close(values.cpu(), expected)
    # a coarser grid over the same field of view sees the same function
    coarse = DetectorTransfer(*SAMPLES).evaluate(4, 2.5 * box / 4, like)
    torch.testing.assert_close(coarse[:2, :2], values[:2, :2])


@pytest.mark.parametrize(
    ("frequencies", "values"),
    [([0.0, 0.1], [1.0]), ([0.1, 0.1], [1.0, 0.9]), ([0.0, 0.1], [1.0, float("nan")]), ([], [])],
)
def test_samples_that_make_no_function_are_refused(frequencies: list[float], values: list[float]) -> None:
    with pytest.raises(InputError, match="ascending frequencies with one finite value each"):
        DetectorTransfer(torch.tensor(frequencies), torch.tensor(values))

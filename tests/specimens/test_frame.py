from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.specimens.frame import find_frame


def measured(group: str, noise_degrees: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A group's rotations seen in a random frame, a little off; the frame; points of the group's shape."""
    generator = np.random.default_rng(seed)
    frame = Rotation.random(rng=generator).as_matrix()
    ideal = symmetry_rotations(group).numpy()
    points = np.einsum("gij,pj->gpi", ideal, generator.normal(size=(20, 3)) * [30, 20, 10]).reshape(-1, 3)
    noise = Rotation.from_rotvec(np.radians(noise_degrees) * generator.normal(size=(len(ideal), 3))).as_matrix()
    return frame.T @ ideal @ frame @ noise, frame, points @ frame


@pytest.mark.parametrize("group", ["C2", "C3", "C7", "D2", "D3", "D5", "T", "O", "I"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_frame_of_every_group_is_found(group, seed):
    rotations, _, points = measured(group, 0.3, seed)
    ideal = symmetry_rotations(group).numpy()
    frame = find_frame(rotations, ideal, group, points)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(frame) == pytest.approx(1)
    seen = frame @ rotations @ frame.T
    cosine = (np.einsum("nij,gij->gn", seen, ideal).max(1) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 1.5


def test_the_frame_of_d2_puts_the_longest_extent_on_x():
    rotations, _, points = measured("D2", 0.0, 3)
    turned = points @ find_frame(rotations, symmetry_rotations("D2").numpy(), "D2", points).T
    assert list(np.argsort(turned.var(0))) == [2, 1, 0]
    assert np.abs(np.cov(turned.T) - np.diag(turned.var(0))).max() < 0.05 * turned.var(0).max()


def test_a_subgroup_is_found_within_its_group():
    rotations, _, points = measured("O", 0.1, 4)
    ideal = symmetry_rotations("D4").numpy()
    frame = find_frame(rotations, ideal, "D4", points)
    cosine = (np.einsum("nij,gij->gn", frame @ rotations @ frame.T, ideal).max(1) - 1) / 2
    assert cosine.min() > np.cos(np.radians(1))


@pytest.mark.parametrize(("group", "stated"), [("D2", "C3"), ("C4", "D2"), ("D3", "T")])
def test_a_symmetry_that_is_not_there_is_refused(group, stated):
    rotations, _, points = measured(group, 0.1, 5)
    with pytest.raises(InputError, match=rf"symmetry {stated}"):
        find_frame(rotations, symmetry_rotations(stated).numpy(), stated, points)

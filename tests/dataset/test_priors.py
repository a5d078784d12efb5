"""What an assumed prior and a detector become on their way through a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryobench.dataset.priors import detector_attributes, split_pose_prior
from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.scenario.draw import draw_particles
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.micrographs import draw_micrographs
from cryobench.scenario.pose_tables import read_quaternions
from cryobench.simulate import simulate

POSES = {
    "uniform": {"kind": "uniform"},
    "euler-gaussian": {"kind": "euler-gaussian", "sigma": 2},
    "mixture": {"kind": "mixture", "components": [{"kind": "belt", "width": 20}, {"kind": "uniform"}]},
}


def simulated(directory: Path, *settings: str) -> Observed:
    small = ["particles=64", "noise.pool=16", "image.native_box=16", "image.native_pixel_size=15", "image.box=12"]
    observed, _ = simulate(adapt_scenario("tiny", settings=[*small, *settings]), directory, seed=2, jobs=1)
    return Observed(open_store(observed, "observed"), 1)


@pytest.mark.parametrize("kind", POSES)
def test_an_assumed_prior_is_drawn_from_as_it_was_set(tmp_path: Path, kind: str) -> None:
    fields = ", ".join(f"{key} = {_toml(value)}" for key, value in POSES[kind].items())
    observed = simulated(tmp_path, f"assume.pose={{{fields}}}", "shift.kind=gaussian", "shift.sigma=4")
    assert observed.assumed_pose["kind"] == kind
    assert observed.assumed_shift == {"kind": "gaussian", "sigma": 4.0}
    assert observed.detector is None
    rotations, shifts = observed.sample_poses(3000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(3000, 3, 3), rtol=0, atol=1e-5)
    assert shifts.std(0).tolist() == pytest.approx([4, 4], rel=0.06)
    view_z = rotations[:, 2, 2]
    expected = {
        "uniform": 1 / 3,
        "euler-gaussian": (1 + np.exp(-4)) / 2,
        "mixture": 1 / 6 + np.sin(np.pi / 18) ** 2 / 6,
    }
    assert float(view_z.square().mean()) == pytest.approx(expected[kind], abs=0.03)


def _toml(value: object) -> str:
    if isinstance(value, list):
        return (
            "[" + ", ".join("{" + ", ".join(f"{k} = {_toml(v)}" for k, v in row.items()) + "}" for row in value) + "]"
        )
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_real_poses_and_a_detector_go_through_the_store(tmp_path: Path, data_directory: Path) -> None:
    cs = data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs"
    mtf = data_directory / "metadata" / "mtf_falcon4EC_300kV.star"
    settings = ["pose.kind=empirical", f"pose.path={cs}", f"ctf.mtf={mtf}"]
    observed = simulated(tmp_path, *settings)
    table = read_quaternions(str(cs))
    np.testing.assert_array_equal(observed.assumed_pose["quaternions"], table)
    rotations, _ = observed.sample_poses(50, torch.Generator().manual_seed(0))
    known = Rotation.from_quat(table)
    assert rotations.dtype == torch.float32
    assert all((known * Rotation.from_matrix(r).inv()).magnitude().min() < 1e-3 for r in rotations.numpy())
    assert observed.detector is not None
    assert float(observed.detector.at(torch.tensor(0.0))) == pytest.approx(0.999517475)
    # the data's own poses are the table's too
    scenario = adapt_scenario("tiny", settings=settings)
    drawn = draw_particles(scenario, 2, 0, 20, draw_micrographs(scenario.ctf, 2))
    own = quaternion_to_matrix(drawn.quaternions).numpy()
    assert all((known * Rotation.from_matrix(r).inv()).magnitude().min() < 1e-6 for r in own)


def test_a_detector_dims_the_images(tmp_path: Path, data_directory: Path) -> None:
    mtf = data_directory / "metadata" / "mtf_falcon2_300kV.star"
    quiet = ["noise.snr_db=inf", "shift.kind=none"]
    plain, dimmed = (simulated(tmp_path / name, *quiet, *more) for name, more in (("a", []), ("b", [f"ctf.mtf={mtf}"])))
    before, after = (torch.fft.rfft2(o.read(slice(0, 8)).images) for o in (plain, dimmed))
    assert dimmed.detector is not None
    ratio = dimmed.detector.evaluate(12, 20.0, before.real)
    torch.testing.assert_close(after, before * ratio, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    assert float(ratio.min()) < 0.5


def test_priors_without_tables_stay_attributes() -> None:
    assert split_pose_prior({"kind": "uniform"}) == ({"kind": "uniform"}, {})
    attribute, variables = split_pose_prior({"kind": "empirical", "jitter": 0.1, "quaternions": np.eye(4)})
    assert attribute == {"kind": "empirical", "jitter": 0.1}
    assert set(variables) == {"assumed_pose_table"}
    assert detector_attributes(None) == {}

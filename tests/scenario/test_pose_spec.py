"""Settings of poses and shifts become priors."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.interop import relion
from cryobench.scenario.files import adapt_scenario, load_scenario, scenario_options
from cryobench.scenario.pose_spec import EulerGaussianPose, MixturePose
from cryobench.scenario.pose_tables import read_quaternions

NOISE = '[noise]\nkind = "white"\nsnr_db = 0\n'


def test_the_diagonal_is_read_as_variances_or_as_deviations() -> None:
    assert EulerGaussianPose(sigma=3).prior()["deviations"] == pytest.approx([math.sqrt(3), math.sqrt(2), 1])
    assert EulerGaussianPose(sigma=3, reading="standard-deviation").prior()["deviations"] == [3, 2, 1]


def test_weights_sum_to_one_and_angles_are_radians() -> None:
    mixture = MixturePose.model_validate(
        {
            "components": [
                {"kind": "von-mises-fisher", "rot": 30, "tilt": 60, "kappa": 5, "weight": 3},
                {"kind": "belt", "width": 90},
            ]
        }
    )
    view, belt = mixture.prior()["components"]
    assert (view["weight"], belt["weight"]) == (0.75, 0.25)
    assert belt["width"] == pytest.approx(math.pi / 2)
    # the direction of RELION's rot and tilt is that of its pose: A^T z
    pose = relion_pose(30, 60, 17)
    np.testing.assert_allclose(view["direction"], pose.inv().apply([0, 0, 1]), atol=1e-12)


def relion_pose(rot: float, tilt: float, psi: float) -> Rotation:
    return Rotation.from_euler("ZYZ", [rot, tilt, psi], degrees=True).inv()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[pose]\nkind = "euler-gaussian"', "sigma: Field required"),
        ('[pose]\nkind = "euler-gaussian"\nsigma = -1', "sigma.*-1"),
        ('[pose]\nkind = "euler-gaussian"\nsigma = 2\nreading = "variance"', "reading.*'variance'"),
        ('[pose]\nkind = "mixture"\ncomponents = []', "components"),
        ('[pose]\nkind = "mixture"\ncomponents = [{kind = "cap"}]', "components.0.*'cap'"),
        (
            '[pose]\nkind = "mixture"\ncomponents = [{kind = "von-mises-fisher", kappa = 3}]',
            "direction, or rot and tilt",
        ),
        (
            '[pose]\nkind = "mixture"\ncomponents = [{kind = "von-mises-fisher", kappa = 3, rot = 3, direction = [0, 0, 1]}]',
            "direction, or rot and tilt",
        ),
        (
            '[pose]\nkind = "mixture"\ncomponents = [{kind = "von-mises-fisher", kappa = 0, direction = [0, 0, 1]}]',
            "kappa",
        ),
        ('[pose]\nkind = "mixture"\ncomponents = [{kind = "belt", width = 200}]', "width"),
        ('[pose]\nkind = "mixture"\ncomponents = [{kind = "belt", width = 20, axis = [0, 0, 0]}]', "not zero"),
        ('[pose]\nkind = "mixture"\ncomponents = [{kind = "belt", width = 20, axis = [0, nan, 1]}]', "axis"),
        ('[pose]\nkind = "empirical"', "path: Field required"),
        ('[shift]\nkind = "triangular"', "half_width .angstrom. and half_width_percent, got neither"),
        ('[shift]\nkind = "gaussian"\nsigma = 3\nsigma_percent = 1', "got sigma = 3.*sigma_percent = 1"),
        ('[assume.pose]\nkind = "gaussian"', "assume.pose.*'gaussian'"),
    ],
)
def test_bad_priors_name_the_setting(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(NOISE + text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_scenario(str(path))


def test_widths_are_angstroms_or_percent_and_one_takes_the_others_place() -> None:
    field = 184 * 1.274
    by_percent = adapt_scenario("snr-20-shift3")
    assert by_percent.assumed_shift()["half_width"] == pytest.approx(0.03 * field)
    by_length = adapt_scenario("snr-20-shift3", settings=["shift.half_width=5"])
    assert by_length.assumed_shift() == {"kind": "triangular", "half_width": 5}
    gaussian = adapt_scenario("snr-20-shift3", settings=["shift.kind=gaussian", "shift.sigma_percent=2"])
    assert gaussian.assumed_shift() == {"kind": "gaussian", "sigma": pytest.approx(0.02 * field)}


def test_what_generates_and_what_is_assumed_are_apart() -> None:
    scenario = load_scenario("snr-20-sigma2-as-uniform")
    assert scenario.pose.prior() == load_scenario("snr-20-sigma2").pose.prior()
    assert scenario.assumed_pose() == {"kind": "uniform"}
    assert load_scenario("snr-20-sigma2").assumed_pose() == scenario.pose.prior()
    changed = adapt_scenario("snr-20", settings=["assume.pose.kind=euler-gaussian", "assume.pose.sigma=2"])
    assert changed.assumed_pose() == scenario.pose.prior()


def test_priors_are_told_again_as_options() -> None:
    components = 'pose.components=[{kind="belt", width=20}, {kind="von-mises-fisher", rot=3, tilt=9, kappa=5}]'
    changed = adapt_scenario("snr-20-shift3", settings=["pose.kind=mixture", components, "shift.half_width=5"])
    options = shlex.split(" ".join(scenario_options(changed.model_dump(mode="json"))))
    assert adapt_scenario("snr-20-shift3", settings=options[1::2]) == changed
    assert set(options[::2]) == {"--set"}


def test_a_mixture_can_be_set_on_the_command_line_and_told_again() -> None:
    belt = '[{kind="belt", width=20}]'
    assert (
        adapt_scenario("snr-20", settings=["pose.kind=mixture", f"pose.components={belt}"]).pose
        == adapt_scenario(
            "snr-20", settings=["pose.kind=mixture", 'pose.components=[{"kind": "belt", "width": 20}]']
        ).pose
    )


def test_real_poses_are_those_of_the_file(data_directory: Path) -> None:
    path = data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs"
    oracle = np.load(data_directory / "oracles" / "cryodrgn_pose_from_P12_J24_cs.npz")["rot"]
    quaternions = read_quaternions(str(path))
    np.testing.assert_allclose(Rotation.from_quat(quaternions).as_matrix(), oracle, atol=1e-5)
    star = data_directory / "metadata" / "PfCRT_5particles.star"
    ours = Rotation.from_quat(read_quaternions(str(star))).as_matrix()
    theirs = Rotation.from_quat(relion.read_particles(star, amplitude_contrast=0.1).quaternion).as_matrix()
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(InputError, match="poses of particles, found none"):
        read_quaternions(str(data_directory / "particles" / "empiar_10076_7.cs"))


def test_a_file_beside_the_scenario_is_found_wherever_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "poses.star").write_text("x", encoding="utf-8")
    path = tmp_path / "study" / "mine.toml"
    path.write_text(NOISE + '[pose]\nkind = "empirical"\npath = "poses.star"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_scenario("study/mine.toml").pose.path == str((tmp_path / "study" / "poses.star").resolve())

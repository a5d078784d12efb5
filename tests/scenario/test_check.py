"""What `scenario check` and `scenario compare` say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cryobench.physics.detector import DetectorTransfer
from cryobench.physics.zeros import find_common_zero
from cryobench.scenario.check import check_scenario, describe_conditions
from cryobench.scenario.compare import compare_scenarios
from cryobench.scenario.ctf_spec import FixedCTF, NoCTF, UniformCTF
from cryobench.scenario.files import adapt_scenario, load_scenario
from cryobench.scenario.micrographs import draw_micrographs


def verdicts(*settings: str, name: str = "tiny") -> dict[str, str]:
    return {f.assumption: f.verdict for f in check_scenario(adapt_scenario(name, settings=settings))}


def numbers(assumption: str, *settings: str, name: str = "tiny") -> str:
    found = {f.assumption: f.numbers for f in check_scenario(adapt_scenario(name, settings=settings))}
    return found[assumption]


def test_the_studys_conditions_hold() -> None:
    assert set(verdicts(name="snr-20-shift3").values()) == {"holds"}


@pytest.mark.parametrize(
    ("settings", "assumption"),
    [
        (["noise.snr_db=inf"], "noise power vanishes nowhere"),
        (
            ["noise.kind=coloured", "noise.frequencies=[0, 0.02, 0.021]", "noise.power=[1, 1, 0]"],
            "noise power vanishes nowhere",
        ),
        (["ctf.kind=fixed", "ctf.defocus=60000"], "no frequency where all CTFs vanish"),
        (["ctf.amplitude_contrast=0"], "no frequency where all CTFs vanish"),
        (['assume.pose={kind="euler-gaussian", sigma=2}'], "the method assumes what generates"),
        (["assume.symmetry=C1"], "the method assumes what generates"),
        (["assume.shift.kind=none"], "the method assumes what generates"),
        (["shift.kind=gaussian", "shift.sigma=3"], "shift prior bounded"),
    ],
)
def test_each_assumption_can_fail_alone(settings: list[str], assumption: str) -> None:
    found = verdicts(*settings)
    assert [name for name, verdict in found.items() if verdict != "holds"] == [assumption]


def test_poses_of_a_file_are_bounded_once_they_are_spread(data_directory: Path) -> None:
    path = data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs"
    settings = ["pose.kind=empirical", f"pose.path={path}"]
    assert verdicts(*settings)["pose prior bounded"] == "fails"
    assert verdicts(*settings, "pose.jitter=3")["pose prior bounded"] == "holds"
    assert "2019 poses, each spread by 3 degrees" in numbers("pose prior bounded", *settings, "pose.jitter=3")


def test_the_highest_density_of_a_mixture_is_its_components() -> None:
    """A belt of width w has ``1 / sin(w / 2)`` times the uniform density; half the particles in it, half uniform."""
    told = numbers(
        "pose prior bounded", 'pose={kind="mixture", components=[{kind="belt", width=60}, {kind="uniform"}]}'
    )
    assert told.startswith("at most 1.5 times the uniform density")


def test_a_volume_with_holes_is_negative(tmp_path: Path) -> None:
    import mrcfile

    grid = np.indices((24, 24, 24)) - 12
    blob = np.exp(-(grid**2).sum(0) / 18)
    shell = (blob - 0.6 * np.exp(-((grid**2).sum(0)) / 50)).astype(np.float32)
    with mrcfile.new(tmp_path / "hole.mrc") as volume:
        volume.set_data(shell)
        volume.voxel_size = 9.768
    assert verdicts(f"specimen={tmp_path / 'hole.mrc'}")["density not negative"] == "fails"


def test_a_specimen_that_cannot_be_had_is_told_and_the_rest_is_checked(tmp_path: Path) -> None:
    found = verdicts(f"specimen={tmp_path / 'nowhere.mrc'}")
    assert found["density"] == "not checked"
    assert found["pose prior bounded"] == "holds"


def test_a_zero_between_two_frequencies_is_found() -> None:
    """The first zero of a CTF without aberration or amplitude contrast is at ``s^2 = 1 / (wavelength * defocus)``."""
    optics = {"spherical_aberration": 0.0, "amplitude_contrast": 0.0, "phase_shift_degrees": 10.0}
    spec = FixedCTF(defocus=12000, **optics)
    expected = np.sqrt((1 - 10 / 180) / (0.0196874 * 12000))
    lowest, _, common, used = find_common_zero(draw_micrographs(spec, 0), None, 32, 4.0)
    assert common == pytest.approx(expected, rel=0.01)
    assert lowest < 1e-3
    assert used == 1
    several = draw_micrographs(UniformCTF(micrographs=20, **optics), 0)
    lowest, _, common, used = find_common_zero(several, None, 32, 4.0)
    assert common is None
    assert lowest == pytest.approx(np.sin(np.deg2rad(10)) ** 2, rel=0.05)
    dark = DetectorTransfer(torch.tensor([0.0, 0.05, 0.06]), torch.tensor([1.0, 0.5, 0.0]))
    assert find_common_zero(several, dark, 32, 4.0)[0] == 0
    assert find_common_zero(draw_micrographs(NoCTF(), 0), None, 32, 4.0)[0] == pytest.approx(1)


def test_conditions_are_told_in_numbers(data_directory: Path) -> None:
    mtf = data_directory / "metadata" / "mtf_falcon2_300kV.star"
    told = dict(describe_conditions(adapt_scenario("snr-5.2", settings=[f"ctf.mtf={mtf}"])))
    assert told["SNR"] == "-5.2 dB at the native pixel of 1.274 Å"
    assert "Nyquist 14.65 Å" in told["images"]
    assert "1000 micrographs" in told["CTF"]
    assert "of the amplitude at the Nyquist frequency" in told["detector"]
    silent = dict(describe_conditions(adapt_scenario("tiny", snr_db=math.inf)))
    assert (silent["SNR"], silent["noise"]) == ("no noise", "none")


def test_two_scenarios_are_compared_modulo_symmetry() -> None:
    rows = dict(compare_scenarios(load_scenario("snr-20-sigma2-as-uniform"), load_scenario("snr-20-sigma3"), "D2"))
    assert rows["symmetry"] == "D2"
    values = {
        name: float(told.split()[0].rstrip(":")) for name, told in rows.items() if name.startswith(("poses", "for"))
    }
    between = values["poses of snr-20-sigma2-as-uniform and snr-20-sigma3"]
    uniform = values["poses of snr-20-sigma3 and uniform ones"]
    assert between < 0.3 * uniform < uniform < values["for scale: one view direction and uniform ones"]
    assert values["poses of snr-20-sigma2-as-uniform and those it assumes"] == pytest.approx(uniform, rel=0.3)
    assert rows["shifts of snr-20-sigma3"] == "none"

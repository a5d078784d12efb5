from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cryobench.errors import InputError, UnknownName
from cryobench.scenario.files import adapt_scenario, load_scenario, scenario_files, scenario_options, scenario_slug


def test_shipped_scenarios_are_valid_and_named_by_their_files() -> None:
    names = set(scenario_files())
    assert {"snr-20", "snr-5.2", "snr-20-shift3", "snr-20-shift20", "tiny"} <= names
    for name in names:
        assert load_scenario(name).name == name


def test_shifts_are_a_percentage_of_the_field_of_view() -> None:
    scenario = load_scenario("snr-20-shift20")
    assert scenario.assumed_shift() == {"kind": "triangular", "half_width": pytest.approx(0.2 * 184 * 1.274)}


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'snr-20'"):
        load_scenario("snr20")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[noise]\nkind = "white"\nsnr_db = nan', "snr_db|SNR"),
        ('[noise]\nkind = "white"\nsnr_db = "loud"', r"snr_db.*'loud'"),
        ('[noise]\nkind = "white"\nsnr_db = 0\n[image]\nbox = 200', "at most the native 184 px, got 200"),
        ('[noise]\nkind = "pink"\nsnr_db = 0', "noise.*'pink'"),
        ("particles = 100", "noise: Field required"),
        (
            'colour = 1\n[noise]\nkind = "white"\nsnr_db = 0',
            "expected the name of a setting of a scenario, got 'colour'",
        ),
        (
            'name = "x"\n[noise]\nkind = "white"\nsnr_db = 0\n[shift]\nkind = "triangular"\nhalf_with = 3',
            r"setting of shift\.triangular, got 'half_with'; did you mean 'half_width'\? \(known: half_width,",
        ),
        (
            '[noise]\nkind = "white"\nsnr_db = 0\n[pose]\nkind = "mixture"\n[[pose.components]]\nkind = "belt"\nwith = 3',
            r"setting of pose\.mixture\.components\.0\.belt, got 'with'; did you mean 'width'\?",
        ),
        (
            '[noise]\nkind = "white"\nsnr_db = 0\n[assume.pose]\nkind = "uniform"\nsigma = 3',
            r"setting of assume\.pose\.uniform, got 'sigma' \(known: kind\)",
        ),
        ("particles = ", "expected TOML"),
    ],
)
def test_bad_scenario_files_name_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_scenario(str(path))
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value) or "TOML" in str(caught.value)


def test_changes_are_validated_and_keep_the_rest(tmp_path: Path) -> None:
    changed = adapt_scenario("snr-20", box=64, specimen="pdb:5A1A", snr_db=-5.0, ctf_table=tmp_path / "ctf.txt")
    assert (changed.image.box, changed.specimen, changed.noise.snr_db, changed.ctf.kind) == (
        64,
        "pdb:5A1A",
        -5.0,
        "table",
    )
    assert changed.ctf.amplitude_contrast == load_scenario("snr-20").ctf.amplitude_contrast
    assert scenario_slug(adapt_scenario("snr-20", box=64, specimen="pdb:5A1A")) == "snr-20-pdb-5A1A-box64"
    # what a name cannot tell in short is told apart by a digest
    slugs = {
        scenario_slug(changed),
        scenario_slug(adapt_scenario("snr-20", snr_db=-5.0)),
        scenario_slug(adapt_scenario("snr-20", particles=50)),
        "snr-20",
    }
    assert len(slugs) == 4
    with pytest.raises(InputError, match="184 px, got 185"):
        adapt_scenario("snr-20", box=185)
    with pytest.raises(InputError, match="SNR in dB"):
        adapt_scenario("snr-20", snr_db=float("nan"))


def test_any_setting_can_be_changed_and_is_told_again() -> None:
    settings = ["noise.kind=coloured", "noise.frequencies=[0, 0.1]", "noise.power=[1, 0.5]", "shift.kind=none"]
    changed = adapt_scenario("snr-20-shift3", settings=settings, box=64, snr_db=-10)
    assert (changed.noise.kind, changed.noise.snr_db, changed.shift.kind) == ("coloured", -10, "none")
    options = shlex.split(" ".join(scenario_options(changed.model_dump(mode="json"))))
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given["--box"] == "64"
    again = [options[i + 1] for i in range(0, len(options), 2) if options[i] == "--set"]
    assert adapt_scenario("snr-20-shift3", settings=again, box=64, snr_db=-10) == changed
    with pytest.raises(InputError, match="KEY=VALUE"):
        adapt_scenario("snr-20", settings=["noise"])
    with pytest.raises(InputError, match=r"shift\.triangular, got .nonsense"):
        adapt_scenario("snr-20-shift3", settings=["shift.nonsense=3"])

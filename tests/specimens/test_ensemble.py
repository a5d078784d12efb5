from __future__ import annotations

import numpy as np
import pytest
import torch

from cryobench.errors import InputError, UnknownName
from cryobench.interop.mrc import write_map
from cryobench.specimens.catalogue import files_of, find
from cryobench.specimens.ensemble import Ensemble, mix, states_of


@pytest.fixture
def maps(tmp_path):
    """Two blobs in files beside one another."""
    axis = np.arange(16) - 8
    for name, place in (("open", -2.0), ("closed", 3.0)):
        squares = (axis[:, None, None] - place) ** 2 + axis[:, None] ** 2 + axis**2
        write_map(tmp_path / f"{name}.mrc", np.exp(-squares / 8), 3.0)
    return tmp_path


def test_an_ensemble_is_the_weighted_mean_of_its_states(maps):
    ensemble = find(f"0.3 * {maps}/open.mrc + 0.9 * {maps}/closed.mrc")
    assert isinstance(ensemble, Ensemble)
    assert ensemble.weights == pytest.approx((0.25, 0.75))
    first, second = (state.density(20, 3.0) for state in ensemble.states)
    assert (ensemble.density(20, 3.0) - (0.25 * first + 0.75 * second)).abs().max() < 1e-6
    assert [state.name for state, _ in states_of(ensemble)] == ["open.mrc", "closed.mrc"]
    assert dict(ensemble.facts())["state 1"].startswith("0.75 of the particles: closed.mrc (C1)")


def test_anything_else_is_one_state():
    phantom = find("phantom")
    assert states_of(phantom) == [(phantom, 1.0)]


def test_weights_may_be_left_out_and_ensembles_are_taken_apart(maps):
    ensemble = find(f"phantom-path,states=4 + {maps}/open.mrc")
    assert ensemble.weights == pytest.approx((0.125,) * 4 + (0.5,))
    assert not any(isinstance(state, Ensemble) for state in ensemble.states)


def test_a_file_lists_states_that_lie_beside_it(maps):
    (maps / "two.toml").write_text(
        'description = "open and closed"\n'
        '[[states]]\nspecimen = "open.mrc,voxel_size=2.0"\nweight = 3\n'
        '[[states]]\nspecimen = "phantom"\n'
    )
    ensemble = find(str(maps / "two.toml"))
    assert (ensemble.name, ensemble.description, ensemble.symmetry) == ("two.toml", "open and closed", "C1")
    assert ensemble.weights == pytest.approx((0.75, 0.25))
    assert ensemble.states[0].voxel_sizes == (2.0,) * 3


def test_the_files_of_an_ensemble_are_known(maps):
    (maps / "two.toml").write_text(
        '[[states]]\nspecimen = "open.mrc,voxel_size=2.0"\n[[states]]\nspecimen = "phantom"\n'
    )
    assert files_of(f"{maps}/closed.mrc,voxel_size=2 + 2 * {maps}/two.toml") == [
        maps / "closed.mrc",
        maps / "two.toml",
        maps / "open.mrc",
    ]
    assert files_of("betagal") == files_of("pdb:1ABC") == files_of("phantom-path,states=3") == []
    assert len(find(f"{maps}/closed.mrc + {maps}/two.toml").states) == 3


def test_symmetry_is_what_all_states_share(maps):
    plain, twofold = find(f"{maps}/open.mrc"), find(f"{maps}/closed.mrc,symmetry=C2")
    again = find(f"{maps}/open.mrc,symmetry=C2")
    assert mix("a", [(twofold, 1), (again, 1)]).symmetry == "C2"
    assert mix("a", [(twofold, 1), (plain, 1)]).symmetry == "C1"
    assert mix("a", [(twofold, 1), (again, 1)], symmetry="C1").symmetry == "C1"
    with pytest.raises(InputError, match=r"C1 or that of every state of 'a' \(C2\), got 'D2'"):
        mix("a", [(twofold, 1), (again, 1)], symmetry="D2")


@pytest.mark.parametrize(
    ("spec", "error", "problem"),
    [
        ("phantom + ", InputError, "between the [+] of 'phantom [+] '.*found nothing"),
        ("0 * phantom + phantom-c1", InputError, "weight above 0 for state 'phantom'"),
        ("0.1.2 * phantom + phantom-c1", InputError, "number before the"),
        ("phantom + fantom", UnknownName, "did you mean 'phantom'"),
        ("nowhere.toml", InputError, r"states of an ensemble at nowhere\.toml"),
    ],
)
def test_what_is_no_ensemble_is_refused(spec, error, problem):
    with pytest.raises(error, match=problem):
        find(spec)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("states = [", "expected TOML"),
        ("", "states: Field required"),
        ("states = []", "at least 1"),
        ('[[states]]\nspecimen = "phantom"\nweight = -1', r"states\.0\.weight: .*greater than 0"),
        ('[[states]]\nspecimen = "phantom"\nshare = 1', r"states\.0\.share: Extra inputs"),
        ('[[states]]\nspecimen = "a.toml"', "name of a specimen, got 'a.toml'"),
    ],
)
def test_files_that_list_no_states_are_named(tmp_path, monkeypatch, content, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises((InputError, UnknownName), match=problem):
        find("a.toml")


def test_no_states_and_options_of_an_ensemble_are_refused():
    with pytest.raises(InputError, match="at least one state"):
        mix("a", [])
    with pytest.raises(InputError, match=r"no options for the ensemble .*resolution; give them to its states"):
        find("betagal + cxcr4", resolution=3.0)


def test_a_file_may_have_a_plus_in_its_name(tmp_path):
    write_map(tmp_path / "a + b.mrc", torch.ones(4, 4, 4), 2.0)
    assert find(str(tmp_path / "a + b.mrc")).name == "a + b.mrc"

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryobench.scenario.ctf_spec import NoCTF, TableCTF, UniformCTF
from cryobench.scenario.draw import draw_particles
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.micrographs import draw_micrographs
from cryobench.scenario.noise import noise_sources
from cryobench.scenario.streams import blocks, draw_rows, generator


def test_draws_depend_on_nothing_but_seed_factor_and_index() -> None:
    scenario = adapt_scenario("snr-20-shift3")
    table = draw_micrographs(scenario.ctf, 5)
    whole = draw_particles(scenario, 5, 0, 50, table)
    part = draw_particles(scenario, 5, 20, 30, table)
    torch.testing.assert_close(whole.quaternions[20:30], part.quaternions, rtol=0, atol=0)
    torch.testing.assert_close(whole.shifts[20:30], part.shifts, rtol=0, atol=0)
    np.testing.assert_array_equal(whole.micrographs[20:30], part.micrographs)


def test_factors_seeds_and_indices_give_unrelated_streams() -> None:
    first = [generator(*key).random() for key in ((0, "pose", 0), (0, "pose", 1), (1, "pose", 0), (0, "noise", 0))]
    assert len(set(first)) == 4


def test_poses_are_uniform_and_shifts_triangular() -> None:
    scenario = adapt_scenario("snr-20-shift20", particles=4000)
    draws = draw_particles(scenario, 0, 0, 4000, draw_micrographs(scenario.ctf, 0))
    # of a rotation uniform on SO(3) every matrix entry has mean 0 and variance 1/3
    assert draws.rotations.mean(0).abs().max() < 0.04
    assert (draws.rotations.var(0) - 1 / 3).abs().max() < 0.03
    width = 0.2 * scenario.field_of_view
    assert draws.shifts.abs().max() < width
    np.testing.assert_allclose(draws.shifts.var(0), width**2 / 6, rtol=0.08)


def test_no_ctf_is_exactly_one() -> None:
    flat = draw_micrographs(NoCTF(), 0).evaluate(32, 4.0)
    torch.testing.assert_close(flat, torch.ones_like(flat), rtol=0, atol=1e-12)


def test_uniform_defocus_stays_in_range_with_the_stated_astigmatism() -> None:
    table = draw_micrographs(UniformCTF(defocus_min=8e3, defocus_max=9e3, astigmatism=200, micrographs=50), 3)
    mean = (table.defocus_u + table.defocus_v) / 2
    assert ((mean >= 8e3) & (mean <= 9e3)).all()
    torch.testing.assert_close(table.defocus_u - table.defocus_v, torch.full((50,), 200.0, dtype=torch.float64))


def test_real_table_rows_become_micrographs(data_directory: Path) -> None:
    path = data_directory / "cryogan_betagal" / "ctf-betagal-all-3185.txt"
    table = draw_micrographs(TableCTF(path=str(path)), 0)
    assert len(table) == 1528  # 1,539 less 11 that were fitted no better than 4 Å
    assert float(table.defocus_u.mean()) == pytest.approx(9900, rel=0.03)
    assert float(table.voltage.unique()) == 300


@settings(max_examples=60)
@given(span=st.tuples(st.integers(0, 400), st.integers(1, 300)), seed=st.integers(0, 5))
def test_any_span_of_draws_is_that_of_the_whole(span: tuple[int, int], seed: int) -> None:
    start, stop = span[0], span[0] + span[1]
    scenario = adapt_scenario("snr-20-shift3")
    table = draw_micrographs(scenario.ctf, 5)
    whole, part = draw_particles(scenario, seed, 0, 700, table), draw_particles(scenario, seed, start, stop, table)
    assert torch.equal(whole.quaternions[start:stop], part.quaternions)
    assert torch.equal(whole.shifts[start:stop], part.shifts)
    np.testing.assert_array_equal(whole.micrographs[start:stop], part.micrographs)
    assert torch.equal(whole.ctf.defocus_u[start:stop], part.ctf.defocus_u)


def test_noise_is_drawn_by_index(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "patches.mrcs") as stack:
        stack.set_data(np.random.default_rng(0).standard_normal((200, 40, 40)).astype(np.float32))
        stack.voxel_size = 9.768
    for scenario in (adapt_scenario("tiny"), adapt_scenario("tiny", noise=tmp_path / "patches.mrcs")):
        source = noise_sources(scenario)[0]["noise"]
        whole = source.draw(2, "noise", 0, 200)
        assert torch.equal(whole[70:130], source.draw(2, "noise", 70, 130))
        assert torch.equal(whole[:10], source.draw(2, "noise", 0, 10))
        assert not torch.equal(whole[:10], source.draw(2, "pool-1", 0, 10))


def test_blocks_are_cut_at_absolute_indices() -> None:
    assert blocks(0, 130) == [(0, 64), (64, 128), (128, 130)]
    assert blocks(60, 70) == [(60, 64), (64, 70)]
    assert blocks(64, 128) == [(64, 128)]
    assert blocks(5, 5) == []


def test_streams_of_blocks_and_of_single_things_are_apart() -> None:
    rows = draw_rows(0, "defocus", 0, 64, lambda source, n: source.random(n))
    assert generator(0, "defocus", 0).random() not in rows
    assert len(set(rows)) == 64

"""Comparisons: a right model passes, wrong ones are found out by the statistic that they fail."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cryobench.cli import app
from cryobench.errors import InputError
from cryobench.noise.compare import Comparison, compare_noise
from cryobench.noise.fit import fit_noise
from cryobench.noise.model import radial_model, write_model
from cryobench.noise.patches import Patches
from cryobench.noise.statistics import bands, describe_noise
from cryobench.physics.noise import colour
from cryobench.report.noise_page import verdict, write_noise_report

BOX, PIXEL = 48, 2.0


def gaussian(count: int, seed: int, elongated: float = 1.0) -> torch.Tensor:
    side = 4 * BOX
    ky, kx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    power = torch.as_tensor(1 + 4 / (1 + (kx / 0.1) ** 2 + (ky / 0.1 / elongated) ** 2), dtype=torch.float32)
    white = torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed))
    return colour(white, power)[:, :BOX, :BOX]


def patches(images: torch.Tensor) -> Patches:
    images = images - images.mean((-2, -1), keepdim=True)
    return Patches(images / images.std(), PIXEL, np.full(len(images), -1, np.int32), (), Path("made"), True)


def z(found: Comparison, start: str) -> list[float]:
    return [row.z for row in found.rows if row.name.startswith(start)]


def test_a_right_model_differs_by_no_more_than_chance() -> None:
    real = patches(gaussian(64, 0))
    found = compare_noise(real, fit_noise(real, "covariance"))
    far, count, _ = found.beyond(3.5)
    assert count > 40
    assert far == 0
    assert found.beyond(4.0, held_out=True)[0] == 0
    assert found.held_out == 32


def test_z_of_the_true_model_is_a_normal_deviate() -> None:
    """The model that the patches were drawn from, over many comparisons: mean square about one."""
    true = radial_model(list(np.linspace(0, 0.25, 25)), list(1 + 4 / (1 + np.linspace(0, 5, 25) ** 2)), {})
    squares = []
    for seed in range(6):
        made = patches(true.draw(12, BOX, PIXEL, np.random.default_rng(100 + seed)))
        squares += [row.z**2 for row in compare_noise(made, true, seed).rows if not row.name.startswith("spread")]
    assert np.mean(squares) == pytest.approx(1, abs=0.2)


def test_each_fault_shows_in_its_statistic() -> None:
    real = patches(gaussian(64, 1))
    white = radial_model([0.0, 0.25], [1.0, 1.0], {})
    found = compare_noise(real, white)
    assert max(np.abs(z(found, "power"))) > 8
    assert max(np.abs(z(found, "lag 1"))) > 8
    assert max(np.abs(z(found, "direction"))) < 4
    long = patches(gaussian(64, 2, elongated=2.0))
    radial = compare_noise(long, fit_noise(long, "radial"))
    assert max(np.abs(z(radial, "power"))) < 3.5
    assert max(np.abs(z(radial, "direction"))) > 5
    assert max(np.abs(z(radial, "edges"))) > 5  # periodic, and patches are not
    assert max(np.abs(z(compare_noise(long, fit_noise(long, "spectrum2d")), "direction"))) < 4
    skewed = patches(torch.distributions.Exponential(1.0).sample((64, BOX, BOX)))
    assert min(z(compare_noise(skewed, fit_noise(skewed, "radial")), "skewness")) > 8
    uneven = patches(gaussian(64, 3) * torch.linspace(0.5, 1.5, 64)[:, None, None])
    assert min(z(compare_noise(uneven, fit_noise(uneven, "radial")), "spread")) > 5


def test_wrapped_edges_point_to_the_model_that_has_none() -> None:
    real = patches(gaussian(64, 0))
    periodic, covariance = (compare_noise(real, fit_noise(real, kind)) for kind in ("radial", "covariance"))
    assert max(abs(value) for value in z(periodic, "edges")) > 3
    assert "`cryobench noise fit --model covariance`" in verdict(periodic)[-1]
    assert not any("--model covariance" in line for line in verdict(covariance))


def test_statistics_of_known_images() -> None:
    x = np.indices((BOX, BOX))[1]
    wave = torch.as_tensor(np.sqrt(2) * np.cos(2 * np.pi * 6 * x / BOX), dtype=torch.float32)[None]
    found = describe_noise(wave, PIXEL)
    band = next(
        name
        for name, (first, stop) in zip([n for n in found if n.startswith("power")], bands(BOX), strict=True)
        if first <= 6 < stop
    )
    assert all((value[0] > 1e-6) == (name == band) for name, value in found.items() if name.startswith("power"))
    assert found["lag 4 px (8 Å), x"][0] == pytest.approx(np.cos(2 * np.pi * 6 * 4 / BOX), abs=0.03)
    assert found["lag 4 px (8 Å), y"][0] == pytest.approx(1, abs=1e-6)
    assert found["skewness"][0] == pytest.approx(0, abs=1e-6)
    assert found["excess kurtosis"][0] == pytest.approx(-1.5, abs=1e-5)
    edges = [shell for first, stop in bands(BOX) for shell in range(first, stop)]
    assert edges == list(range(1, BOX // 2 + 1))


def test_deviations_that_were_taken_out_of_patches_are_taken_out_of_the_model_s_images() -> None:
    real = patches(gaussian(64, 4))
    same = replace(real, images=real.images / real.images.std((-2, -1), keepdim=True))
    found = compare_noise(same, fit_noise(same, "covariance"))
    assert "spread" not in [row.name for row in found.rows]
    assert found.beyond(3.5)[0] == 0


def test_patches_finer_than_the_model_are_refused() -> None:
    real = patches(gaussian(8, 0))
    with pytest.raises(InputError, match="at least 5 Å, those of the model, got 2 Å"):
        compare_noise(real, radial_model([0.0, 0.1], [1.0, 1.0], {}))


def test_the_report_holds_figures_and_numbers(tmp_path: Path) -> None:
    real = patches(gaussian(12, 0))
    model = fit_noise(real, "radial", {"note": "made <here>"})
    found = compare_noise(real, model)
    text = write_noise_report(tmp_path / "report.html", found, real, model).read_text("utf-8")
    body = text[text.index("const drawings = {") :]
    drawn = re.findall(r'^  "(\w+)": (\{.*\}),?$', body, re.MULTILINE)
    assert [name for name, _ in drawn] == ["radial", "plane", "lags", "pixels", "patches", "drawn", "deviates"]
    for name, figure in drawn:
        assert json.loads(figure)["data"], name
        assert f'id="{name}"' in text
    assert "made &lt;here&gt;" in text
    assert "http://" not in text.split("<script>")[0]
    assert all(row.name.replace("<", "&lt;") in text for row in found.rows)
    assert "Against all 12 patches" in verdict(found)[0]
    with pytest.raises(InputError, match=r"ending in \.html"):
        write_noise_report(tmp_path / "report.pdf", found, real, model)


def test_the_commands_work_together(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "p.mrcs") as file:
        file.set_data(-patches(gaussian(10, 0)).images.numpy())
        file.voxel_size = PIXEL
    run = CliRunner()
    fitted = run.invoke(
        app, ["noise", "fit", str(tmp_path / "p.mrcs"), "--model", "spectrum2d", "--out", str(tmp_path / "m.npz")]
    )
    assert fitted.exit_code == 0, fitted.output
    assert "smoothed by a Gaussian" in " ".join(fitted.output.split())
    page = tmp_path / "report.html"
    compared = run.invoke(
        app, ["noise", "compare", str(tmp_path / "p.mrcs"), str(tmp_path / "m.npz"), "--out", str(page)]
    )
    assert compared.exit_code == 0, compared.output
    assert "held out" in compared.output
    assert page.is_file()
    write_model(tmp_path / "m.toml", fit_noise(patches(gaussian(10, 0)), "radial"))
    again = run.invoke(app, ["noise", "compare", str(tmp_path / "p.mrcs"), str(tmp_path / "m.toml")])
    assert again.exit_code == 0, again.output

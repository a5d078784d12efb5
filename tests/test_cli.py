"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryobench.cli import main
from cryobench.dataset.store import open_predicted
from cryobench.errors import StoreError

FAST = ("--workers", "1", "-p", "steps=6", "-p", "batch=16", "-p", "snapshots=2")


def cryobench(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cryobench.cli", *map(str, arguments)]
    full = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=full, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "demo"
    done = cryobench("run", "--method", "cryogan", "--scenario", "tiny", "--out", directory, *FAST)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    assert "reconstruct half 2" in done.stdout
    return directory


def test_run_leaves_everything_it_promises(finished: Path) -> None:
    for name in (
        "observed.zarr",
        "truth.zarr",
        "oracle.zarr",
        "predicted.zarr",
        "result.json",
        "half1.mrc",
        "half2.mrc",
        "mean.mrc",
        "truth.mrc",
        "fsc.csv",
        "fsc/half_map.xml",
        "fsc/truth_corrected.xml",
        "report.html",
    ):
        assert (finished / name).exists(), name
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    for kind in ("half_map", "truth"):
        for threshold in ("0.143", "0.5"):
            entry = result["resolution"][kind][threshold]
            assert set(entry) == {"value", "state"}
            assert entry["state"] in ("crossed", "above_to_nyquist", "below_at_first_shell")
    assert {"fsc", "alignment", "cost", "provenance", "options", "digests"} <= set(result)
    assert all(result["yardsticks"][name] for name in ("ellipsoid", "noise_halves", "oracle_poses"))
    assert not result["oracle_poses"]
    with mrcfile.open(finished / "mean.mrc") as volume:
        assert volume.data.shape == (16, 16, 16)
        assert float(volume.voxel_size.x) == pytest.approx(24 * 9.768 / 16)


def test_each_stage_alone_gives_the_same_result(finished: Path, tmp_path: Path) -> None:
    assert cryobench("simulate", "--scenario", "tiny", "--out", tmp_path).returncode == 0
    assert cryobench("reconstruct", tmp_path, "--method", "cryogan", *FAST).returncode == 0
    assert cryobench("evaluate", tmp_path).returncode == 0
    (tmp_path / "report.html").unlink()
    assert cryobench("report", tmp_path).returncode == 0
    assert (tmp_path / "report.html").exists()
    ours, theirs = (json.loads((d / "result.json").read_text(encoding="utf-8")) for d in (tmp_path, finished))
    assert ours["resolution"] == theirs["resolution"]
    assert ours["fsc"] == theirs["fsc"]


def test_all_images_make_one_map_that_can_be_evaluated(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "observed.zarr", tmp_path / "observed.zarr")
    done = cryobench("reconstruct", tmp_path, "--method", "cryogan", "--whole", *FAST)
    assert done.returncode == 0, done.stderr
    assert "whole.mrc" in done.stdout
    out = tmp_path / "evaluated"
    truth = ("--truth", finished / "truth.mrc", "--no-yardsticks")
    assert cryobench("evaluate", tmp_path / "whole.mrc", *truth, "--out", out).returncode == 0
    resolution = json.loads((out / "result.json").read_text())["resolution"]
    assert "truth" in resolution
    assert not resolution.get("half_map")
    assert not (tmp_path / "predicted.zarr").exists()


def test_a_bare_map_is_evaluated_as_a_run_is(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mean, half1, half2 = (str(finished / f"{name}.mrc") for name in ("mean", "half1", "half2"))
    options = ("--half1", half1, "--half2", half2, "--truth", str(finished / "truth.zarr"), "--name", "elsewhere")
    main_leaves(0, "evaluate", mean, *options, "--symmetry", "D2", "--no-yardsticks")
    said = capsys.readouterr().out
    assert "elsewhere" in said
    assert "runs/evaluate-mean/result.json" in said
    assert (tmp_path / "runs" / "evaluate-mean" / "report.html").exists()
    ours = json.loads((tmp_path / "runs" / "evaluate-mean" / "result.json").read_text(encoding="utf-8"))
    theirs = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    # the halves were written superposed: the same maps, read back in single precision
    for name in ("half_map", "truth"):
        np.testing.assert_allclose(ours["fsc"][name], theirs["fsc"][name], atol=0.02)
    for wrong, reason in (
        (("--half1", half1), "give --half1 and --half2"),
        ((*options, "--out", str(finished)), "name another with --out"),
    ):
        main_leaves(2, "evaluate", mean, *wrong)
        assert reason in capsys.readouterr().err


def main_leaves(code: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == code


def test_figures_are_exported_as_tables_where_there_is_no_browser(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere")
    main_leaves(0, "report", str(finished), "--export")
    said = capsys.readouterr().out
    assert "no PNG files" in said
    assert "cryobench[figures]" in said
    assert (finished / "figures" / "fsc.csv").is_file()


def test_running_again_takes_up_what_is_there(finished: Path) -> None:
    stamp = (finished / "predicted.zarr" / "half1" / "zarr.json").stat().st_mtime_ns
    again = cryobench("run", "--method", "cryogan", "--scenario", "tiny", "--out", finished, *FAST)
    assert again.returncode == 0
    assert (finished / "predicted.zarr" / "half1" / "zarr.json").stat().st_mtime_ns == stamp


def test_another_result_is_never_written_over_silently(finished: Path) -> None:
    other = cryobench("run", "--method", "cryogan", "--scenario", "tiny", "--out", finished, "-p", "steps=7")
    assert other.returncode == 2
    assert "--overwrite" in other.stderr


def test_help_is_instant_and_light() -> None:
    code = (
        "import sys; sys.argv = ['cryobench', '--help']\n"
        "from cryobench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'xarray', 'zarr', 'scipy', 'numpy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "reconstruct" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--method", "cryogann", "--scenario", "tiny"), "did you mean 'cryogan'"),
        (("run", "--method", "cryogan", "--scenario", "snr20"), "did you mean 'snr-20'"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "--specimen", "phantomm"), "did you mean 'phantom'"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "-p", "step=3"), "did you mean 'steps'"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "-p", "steps=many"), "steps"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "-p", "steps"), "KEY=VALUE"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "--box", "30"), "at most the native 24 px, got 30"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "--snr", "nan"), "SNR in dB"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "--budget", "soon"), "expected a time"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "--device", "cuda:7"), "CUDA|device"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "--ctf-table", "nowhere.txt"), "nowhere.txt"),
        (("run", "--method", "cryogan", "--scenario", "tiny", "--noise", "nowhere.mrcs"), "nowhere.mrcs"),
        (("reconstruct", "nowhere", "--method", "cryogan"), "nowhere"),
        (("evaluate", "nowhere"), "expected a run directory or a map at nowhere, found nothing there"),
        (("evaluate", "."), "expected a run directory with predicted.zarr at ., found none in it"),
        (("evaluate", ".", "--half1", "a.mrc"), "they are for maps"),
        (
            ("evaluate", ".", "--mask", "circle"),
            "expected a mask 'specimen', 'sphere' or the path of a map, got 'circle'",
        ),
        (("evaluate", ".", "--mask-radius", "30"), "ask for the mask 'sphere'"),
        (("reproduce", "nowhere"), "nowhere"),
        (("report", "nowhere"), "nowhere"),
        (("import", "relion", "nowhere.star", "--out", "x"), "nowhere.star"),
        (("dataset", "info", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert any(part in lines[0] for part in message.split("|")), lines[0]


def test_debug_shows_the_traceback() -> None:
    done = cryobench("run", "--method", "cryogann", "--scenario", "tiny", "--debug")
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("damage", ["truncated", "nan"])
def test_damaged_maps_are_refused_by_name(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    with warnings.catch_warnings(action="ignore"), mrcfile.new(path) as volume:
        data = np.zeros((8, 8, 8), np.float32)
        data[4, 4, 4] = np.nan if damage == "nan" else 1
        volume.set_data(data)
        volume.voxel_size = 10
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    done = cryobench("simulate", "--scenario", "tiny", "--specimen", path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "map.mrc" in done.stderr


def test_interrupt_keeps_what_was_written(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cryobench.cli",
        "run",
        "--method",
        "cryogan",
        "--scenario",
        "tiny",
        "--out",
        str(tmp_path),
    ]
    options = ["-p", "steps=100000", "-p", "batch=16"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def take_interrupts() -> None:  # a shell that starts tests in the background makes them ignore SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, *options], env=environment, preexec_fn=take_interrupts, **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("reconstruct half 1"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    history = tmp_path / "predicted.zarr" / "half1"
    assert process.returncode == 130
    assert "what was written is kept" in errors
    assert "Traceback" not in errors
    with pytest.raises(StoreError, match="unfinished"):
        open_predicted(tmp_path / "predicted.zarr")
    assert (history / "history_discriminator_loss").is_dir()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("scenario", "list"), "snr-20-shift3"),
        (("scenario", "show", "snr-5.2"), '"snr_db": -5.2'),
        (("scenario", "show", "snr-5.2", "--set", "noise.snr_db=-7"), '"snr_db": -7.0'),
        (("scenario", "check", "tiny"), "7 of 7 hold"),
        (("scenario", "check", "tiny", "--set", "noise.snr_db=inf"), "there is no noise"),
        (("scenario", "compare", "snr-20-sigma2", "snr-20", "--symmetry", "O"), "poses of snr-20-sigma2 and snr-20"),
        (("method", "list"), "backproject"),
        (("method", "show", "cryogan"), "n_discr"),
        (("specimen", "list"), "phantom"),
        (("specimen", "show", "phantom"), "D2"),
        (("doctor",), "RELION"),
        (("--version",), "0.1.0"),
    ],
)
def test_what_there_is(
    arguments: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    assert expected in capsys.readouterr().out


def test_dataset_info_tells_snr_where_there_is_a_truth(finished: Path) -> None:
    done = cryobench("dataset", "info", finished)
    assert done.returncode == 0
    assert "0.00 dB" in done.stdout

"""Whatever is lost or damaged is found, named, and made anew: the same bytes, and nothing else is touched."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryobench.cli import main
from cryobench.dataset.check import check_dataset
from cryobench.errors import StoreError
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def flip_a_bit(file: Path, place: float = 0.5) -> None:
    data = bytearray(file.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    file.write_bytes(data)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def poison(file: Path) -> None:
    """Values that are no numbers, under a checksum that is right."""
    import zarr

    array = zarr.open_array(file.parents[3], mode="r+")
    array[5, 5, 5] = np.nan


SOME_FILES = [
    "observed.zarr/images/c/0/0/0",
    "observed.zarr/images/c/1/0/0",
    "observed.zarr/images/zarr.json",
    "observed.zarr/zarr.json",
    "observed.zarr/half/c/1",
    "observed.zarr/defocus_u/c/0",
    "observed.zarr/noise_patches/c/0/0/0",
    "observed.zarr/noise_power/zarr.json",
    "truth.zarr/zarr.json",
    "truth.zarr/rotation/c/1/0",
    "truth.zarr/volume/c/0/0/0",
]


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_a_whole_dataset_is_found_whole_and_left_alone(copy: Path, two_shards: Scenario) -> None:
    assert check_dataset(copy) == []
    times = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    simulate(two_shards, copy, seed=1)
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == times


@pytest.mark.parametrize("harm", [Path.unlink, cut_off, flip_a_bit], ids=["missing", "cut off", "a bit flipped"])
@pytest.mark.parametrize("file", SOME_FILES)
def test_damage_is_named_and_repaired(copy: Path, whole: Path, two_shards: Scenario, file: str, harm: object) -> None:
    harm(copy / file)  # type: ignore[operator]
    found = [name for name, _ in check_dataset(copy)]
    assert file in found
    others = {p: p.stat().st_mtime_ns for p in copy.rglob("0") if p.is_file() and "images" in p.parts}
    simulate(two_shards, copy, seed=1)
    assert check_dataset(copy) == []
    assert contents(copy) == contents(whole)
    # images of other shards were not computed again
    touched = {p for p, time in others.items() if p.stat().st_mtime_ns != time}
    assert touched <= {copy / file}


def test_values_that_are_no_numbers_are_found(copy: Path, whole: Path, two_shards: Scenario) -> None:
    poison(copy / SOME_FILES[0])
    assert check_dataset(copy) == [(SOME_FILES[0], "holds values that are not finite")]
    simulate(two_shards, copy, seed=1)
    assert contents(copy) == contents(whole)


def test_many_damages_at_once_are_repaired(copy: Path, whole: Path, two_shards: Scenario) -> None:
    for number, file in enumerate(file for file in SOME_FILES if file != "observed.zarr/zarr.json"):
        [cut_off, flip_a_bit, Path.unlink][number % 3](copy / file)
    shutil.rmtree(copy / "observed.zarr" / "half")
    simulate(two_shards, copy, seed=1)
    assert contents(copy) == contents(whole)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.37, 0.9, 1.0])
def test_a_flipped_bit_is_found_wherever_it_is(copy: Path, place: float) -> None:
    for file in ("observed.zarr/images/c/1/0/0", "observed.zarr/amplitude_contrast/c/0", "truth.zarr/shift/c/0/0"):
        flip_a_bit(copy / file, place)
        assert [name for name, _ in check_dataset(copy)] == [file]
        flip_a_bit(copy / file, place)


def test_metadata_that_lies_about_a_shape_is_found(copy: Path, whole: Path, two_shards: Scenario) -> None:
    file = copy / "observed.zarr" / "images" / "zarr.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    table["shape"][0] = 1000
    file.write_text(json.dumps(table), encoding="utf-8")
    assert ("observed.zarr/images/zarr.json") in [name for name, _ in check_dataset(copy)]
    simulate(two_shards, copy, seed=1)
    assert contents(copy) == contents(whole)


def test_a_truth_of_other_images_is_told(copy: Path, tmp_path: Path) -> None:
    simulate(adapt_scenario("tiny", particles=2100, settings=["noise.pool=16"]), tmp_path / "other", seed=2)
    shutil.rmtree(copy / "truth.zarr")
    shutil.copytree(tmp_path / "other" / "truth.zarr", copy / "truth.zarr")
    assert check_dataset(copy) == [
        ("truth.zarr", "is not the truth that observed.zarr was made from: their digests differ")
    ]


def test_a_lost_truth_is_made_anew_only_if_it_is_the_same(copy: Path, whole: Path, two_shards: Scenario) -> None:
    shutil.rmtree(copy / "truth.zarr")
    with pytest.raises(StoreError, match="not this scenario's with this seed"):
        simulate(two_shards, copy, seed=2)
    assert sorted(p.name for p in copy.iterdir()) == ["observed.zarr"]
    simulate(two_shards, copy, seed=1)
    assert contents(copy) == contents(whole)


def test_a_directory_of_which_nothing_can_be_read_is_refused(copy: Path, two_shards: Scenario) -> None:
    for file in ("truth.zarr/zarr.json", "observed.zarr/zarr.json", "observed.zarr/images/zarr.json"):
        cut_off(copy / file)
    with pytest.raises(StoreError, match=r"no observed\.zarr beside it tells"):
        simulate(two_shards, copy, seed=1)


def test_the_command_line_tells_and_exits_with_one(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "observed.zarr" / "half" / "c" / "0").unlink()
    with pytest.raises(SystemExit) as left:
        main(["dataset", "check", str(copy)])
    assert left.value.code == 1
    assert "observed.zarr/half/c/0" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["dataset", "check", str(copy / "nowhere")])
    assert left.value.code == 2


def test_a_full_disc_is_told_and_completed_later(whole: Path, two_shards: Scenario, tmp_path: Path) -> None:
    # a limit on the size of files stands for the disc: writes beyond it fail, as they do where no room is left
    code = (
        "import resource, signal, sys; from pathlib import Path; from cryobench.cli import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
        "main(['simulate', '-s', 'tiny', '-n', '2100', '--set', 'noise.pool=16', '--seed', '1', '--out', sys.argv[1]])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "full")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "could not write" in done.stderr
    assert "images" in done.stderr
    assert [reason for _, reason in check_dataset(tmp_path / "full")]
    assert not list((tmp_path / "full").rglob("*.partial"))
    simulate(two_shards, tmp_path / "full", seed=1)
    assert contents(tmp_path / "full") == contents(whole)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 400_000

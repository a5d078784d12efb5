"""Stores are what the schema says, are known when unfinished, and open with plain xarray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from cryobench.conventions import CONVENTIONS
from cryobench.dataset.create import create_store
from cryobench.dataset.schema import OBSERVED, PARTICLES_PER_SHARD, TRUTH
from cryobench.dataset.store import digest, finish_store, has_shard, open_predicted, open_store, open_unfinished, shards
from cryobench.errors import StoreError
from cryobench.physics.ctf import ContrastTransfer

ATTRIBUTES = {
    "voxel_size": 4.0,
    "symmetry": "C1",
    "assumed_pose": {"kind": "uniform"},
    "assumed_shift": {"kind": "none"},
    "contrast": "protein bright",
    "noise_note": "none",
}


def shapes(particles: int = 10, box: int = 8, **more: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {
        "images": (particles, box, box),
        "micrograph": (particles,),
        "half": (particles,),
        "noise_patches": (4, box, box),
        "patch_half": (4,),
        "patch_micrograph": (4,),
        "noise_power": (2, box // 2 + 1),
        **dict.fromkeys(ContrastTransfer.names(), (particles,)),
        **more,
    }


def put(group: zarr.Group, name: str, values: Any) -> None:
    array = group[name]
    assert isinstance(array, zarr.Array)
    array[...] = values


def whole_store(path: Path, particles: int = 10) -> Path:
    group = create_store(path, "observed", shapes(particles), ATTRIBUTES)
    put(group, "images", np.arange(particles * 64, dtype=np.float32).reshape(particles, 8, 8))
    put(group, "half", 1 + np.arange(particles) % 2)
    finish_store(group)
    return path


def test_a_finished_store_opens_with_dims_dtypes_units_and_conventions(tmp_path: Path) -> None:
    dataset = open_store(whole_store(tmp_path / "observed.zarr"), "observed")
    assert dict(dataset.sizes) == {"particle": 10, "y": 8, "x": 8, "patch": 4, "noise_half": 2, "shell": 5}
    for name, variable in OBSERVED.items():
        if variable.required:
            assert dataset[name].dims == variable.dims
            assert dataset[name].dtype == variable.dtype
            assert dataset[name].attrs["units"] == variable.units
            assert dataset[name].attrs["description"] == variable.description
    assert dataset.attrs["conventions"] == CONVENTIONS
    assert dataset.attrs["complete"] is True
    assert set(dataset.attrs["versions"]) >= {"cryobench", "torch", "zarr"}
    assert dataset["images"].values[3, 1, 2] == 3 * 64 + 1 * 8 + 2


def test_plain_xarray_opens_it_without_a_warning(tmp_path: Path) -> None:
    path = whole_store(tmp_path / "observed.zarr")
    with xr.open_zarr(path) as dataset:  # warnings are errors in these tests
        xr.testing.assert_identical(dataset.load(), open_store(path, "observed").load())


def test_opening_reads_no_image_and_writes_nothing(tmp_path: Path) -> None:
    path = whole_store(tmp_path / "observed.zarr")
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    (path / "images" / "c" / "0" / "0" / "0").unlink()
    dataset = open_store(path, "observed")
    assert dataset["half"].values.tolist() == [1, 2] * 5
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}.items() <= before.items()


def test_an_unfinished_store_is_refused_and_can_be_completed(tmp_path: Path) -> None:
    path = tmp_path / "observed.zarr"
    create_store(path, "observed", shapes(), ATTRIBUTES)
    with pytest.raises(StoreError, match="unfinished: give the command that began it again"):
        open_store(path, "observed")
    finish_store(open_unfinished(path, "observed"))
    assert open_store(path, "observed").sizes["particle"] == 10


@pytest.mark.parametrize("opened", ["truth", "predicted", "unfinished"])
def test_a_store_of_another_kind_is_refused(tmp_path: Path, opened: str) -> None:
    path = whole_store(tmp_path / "observed.zarr")
    with pytest.raises(StoreError, match=r"expected a store of kind '(truth|predicted)' .*found kind 'observed'"):
        {
            "truth": lambda: open_store(path, "truth"),
            "predicted": lambda: open_predicted(path),
            "unfinished": lambda: open_unfinished(path, "truth"),
        }[opened]()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="found nothing"):
        open_store(tmp_path / "observed.zarr", "observed")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(StoreError, match="found something else"):
        open_store(tmp_path / "file", "observed")
    zarr.open_group(tmp_path / "foreign.zarr", mode="w", zarr_format=3)
    with pytest.raises(StoreError, match="found kind None"):
        open_store(tmp_path / "foreign.zarr", "observed")


def test_a_missing_variable_or_attribute_or_a_wrong_type_is_named(tmp_path: Path) -> None:
    path = whole_store(tmp_path / "observed.zarr")
    group = zarr.open_group(path, mode="r+")
    del group.attrs["symmetry"]
    with pytest.raises(StoreError, match=r"lacks the attributes \['symmetry'\]"):
        open_store(path, "observed")
    del group["defocus_u"]
    with pytest.raises(StoreError, match="lacks the variable 'defocus_u'"):
        open_store(path, "observed")
    group.create_array("defocus_u", shape=(10,), dtype="float32", dimension_names=("particle",))
    with pytest.raises(StoreError, match=r"expected 'defocus_u' .* as float64 .* found float32"):
        open_store(path, "observed")
    del group["defocus_u"]
    group.create_array("defocus_u", shape=(10,), dtype="float64", dimension_names=("row",))
    with pytest.raises(StoreError, match=r"over \('particle',\), found float64 over \('row',\)"):
        open_store(path, "observed")


def test_creation_demands_the_whole_schema_and_an_empty_place(tmp_path: Path) -> None:
    path = tmp_path / "observed.zarr"
    with pytest.raises(StoreError, match=r"lacks .*'half'"):
        create_store(path, "observed", {k: v for k, v in shapes().items() if k != "half"}, ATTRIBUTES)
    with pytest.raises(StoreError, match=r"does not know .*'colour'"):
        create_store(path, "observed", shapes(colour=(10,)), ATTRIBUTES)
    with pytest.raises(StoreError, match=r"lacks .*'voxel_size'"):
        create_store(path, "observed", shapes(), {k: v for k, v in ATTRIBUTES.items() if k != "voxel_size"})
    assert not path.exists()
    whole_store(path)
    with pytest.raises(StoreError, match="expected nothing at"):
        create_store(path, "observed", shapes(), ATTRIBUTES)


def test_given_poses_are_optional(tmp_path: Path) -> None:
    path = tmp_path / "observed.zarr"
    finish_store(create_store(path, "observed", shapes(given_rotation=(10, 4), given_shift=(10, 2)), ATTRIBUTES))
    assert open_store(path, "observed")["given_rotation"].dims == ("particle", "quaternion")
    assert not OBSERVED["given_rotation"].required
    assert {name for name, variable in TRUTH.items() if not variable.required} == {"state", "state_volume"}


def test_a_digest_is_of_names_and_values_and_not_of_chunks(tmp_path: Path) -> None:
    path = whole_store(tmp_path / "observed.zarr")
    dataset = open_store(path, "observed")
    expected = digest(dataset)
    assert digest(dataset.load()) == expected
    assert digest(dataset.assign_attrs(voxel_size=5.0)) == expected
    copied = tmp_path / "copied.zarr"
    dataset.drop_encoding().to_zarr(copied, zarr_format=3, consolidated=False)
    assert digest(xr.open_zarr(copied, consolidated=False, chunks=None)) == expected
    assert digest(dataset, salt="s") != expected
    changed = dataset.copy(deep=True)
    changed["images"].values[9, 7, 7] += 1
    assert digest(changed) != expected
    assert digest(dataset.rename(micrograph="film")) != expected
    assert digest(dataset.drop_vars("half")) != expected


def test_shards_are_units_of_work_that_are_seen_when_written(tmp_path: Path) -> None:
    particles = PARTICLES_PER_SHARD + 5
    spans = list(shards(particles))
    assert spans == [(0, PARTICLES_PER_SHARD), (PARTICLES_PER_SHARD, particles)]
    path = tmp_path / "observed.zarr"
    group = create_store(path, "observed", shapes(particles, 4), ATTRIBUTES)
    images = group["images"]
    assert isinstance(images, zarr.Array)
    assert images.shards == (PARTICLES_PER_SHARD, 4, 4)
    start, stop = spans[1]
    images[start:stop] = np.ones((5, 4, 4), np.float32)
    assert has_shard(path, start)
    assert not has_shard(path, 0)

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cryobench.errors import InputError, UnknownName
from cryobench.interop.mrc import write_map
from cryobench.specimens.atoms import AtomicModel
from cryobench.specimens.catalogue import find, names, read_catalogue
from cryobench.specimens.maps import DensityMap
from cryobench.specimens.phantom import Phantom

MODEL = """data_9ZZZ
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.B_iso_or_equiv
_atom_site.auth_asym_id
_atom_site.auth_seq_id
_atom_site.pdbx_PDB_model_num
ATOM 1 C CA . ALA A 1 0.0 0.0 0.0 1.0 10.0 A 1 1
ATOM 2 N N  . ALA A 1 1.4 0.0 0.0 1.0 10.0 A 1 1
"""


@pytest.fixture(autouse=True)
def nothing_within_reach(tmp_path, monkeypatch):
    """No data directory, an empty cache, and archives at a closed port of this machine."""
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    for variable in ("CRYOBENCH_PDB_URL", "CRYOBENCH_EMDB_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A little archive served from this machine; gives its directory and the paths that were asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    root = tmp_path / "archive"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for variable in ("CRYOBENCH_PDB_URL", "CRYOBENCH_EMDB_URL"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_port}")
    yield root, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_catalogue_ships_what_it_names():
    assert {"phantom", "betagal", "apoferritin", "cxcr4"} <= set(names())
    assert all(names().values())
    for entry in read_catalogue().values():
        assert (entry.source == "phantom") == (entry.accession is None)


def test_the_phantom_needs_nothing():
    assert isinstance(find("phantom"), Phantom)


def test_importing_the_catalogue_and_listing_it_is_light():
    code = (
        "import sys; from cryobench.specimens.catalogue import names; names();"
        "print([m for m in ('torch', 'numpy', 'gemmi', 'pooch', 'mrcfile', 'scipy') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(("name", "suggested"), [("betagel", "betagal"), ("fantom", "phantom"), ("nonsense", None)])
def test_an_unknown_name_is_answered_with_the_known_ones(name, suggested):
    with pytest.raises(UnknownName, match=f"did you mean '{suggested}'" if suggested else "known:.*phantom"):
        find(name)


@pytest.mark.parametrize(
    ("spec", "group"), [("betagal", "D2"), ("pdb:5a1a", "D2"), ("pdb:6Z6U", "O"), ("PDB:8zpm", "C1")]
)
def test_the_data_directory_comes_first(spec, group, data_directory, monkeypatch):
    monkeypatch.setenv("CRYOBENCH_DATA", str(data_directory))
    specimen = find(spec)
    assert isinstance(specimen, AtomicModel)
    assert (specimen.symmetry, specimen.resolution) == (group, 2.5)
    assert specimen.path.is_relative_to(data_directory)


def test_a_map_in_the_data_directory(data_directory, monkeypatch):
    monkeypatch.setenv("CRYOBENCH_DATA", str(data_directory))
    for spec in ("emdb:3197", "emdb:EMD-3197"):
        specimen = find(spec, symmetry="C1", voxel_size=11.0)
        assert isinstance(specimen, DensityMap)
        assert (specimen.path.name, specimen.voxel_size) == ("EMD-3197.map", 11.0)


def test_files_are_specimens(tmp_path):
    (tmp_path / "my.cif.gz").write_bytes(gzip.compress(MODEL.encode()))
    model = find(str(tmp_path / "my.cif.gz"), resolution=6.0)
    assert isinstance(model, AtomicModel)
    assert (model.name, model.symmetry, model.resolution) == ("my.cif.gz", "C1", 6.0)
    assert float(model.density(16, 4.0).sum()) * 64 == pytest.approx(13, rel=1e-4)
    write_map(tmp_path / "my.mrc", np.ones((4, 4, 4)), 2.0)
    assert isinstance(find(str(tmp_path / "my.mrc"), symmetry="D2"), DensityMap)
    with pytest.raises(InputError, match=r"other\.pdb"):
        find(str(tmp_path / "other.pdb"))


@pytest.mark.parametrize(
    ("spec", "options", "problem"),
    [
        ("phantom", {"symmetry": "C3"}, "symmetry D2 for the phantom"),
        ("phantom", {"resolution": 3.0}, "no resolution"),
        ("my.cif", {"voxel_size": 3.0}, "no voxel_size"),
        ("my.cif", {"symmetry": "Q9"}, "point group"),
        ("my.cif", {"resolution": 0.0}, "resolution above 0"),
        ("pdb:zz", {}, "PDB accession"),
        ("emdb:5A1A", {}, "EMDB accession"),
    ],
)
def test_options_and_accessions_that_mean_nothing_are_refused(tmp_path, monkeypatch, spec, options, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.cif").write_text(MODEL)
    with pytest.raises(InputError, match=problem):
        find(spec, **options)


def test_offline_it_says_where_to_put_the_file(tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"CRYOBENCH_DATA/models/5a1a\.cif\.gz \(CRYOBENCH_DATA is not set\)"
    ) as caught:
        find("pdb:5A1A")
    assert "http://127.0.0.1:9/5a1a.cif.gz" in str(caught.value)
    assert str(tmp_path / "cache/cryobench/models/5a1a.cif.gz") in str(caught.value)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CRYOBENCH_DATA", str(tmp_path / "data"))
    with pytest.raises(InputError, match=r"CRYOBENCH_DATA/maps/emd_9999\.map\.gz \(CRYOBENCH_DATA is .*data\)"):
        find("emdb:9999")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_download_is_kept_and_held_to_its_hash(archive, tmp_path, monkeypatch):
    root, asked = archive
    (root / "9zzz.cif.gz").write_bytes(gzip.compress(MODEL.encode()))
    specimen = find("pdb:9ZZZ")
    assert isinstance(specimen, AtomicModel)
    assert specimen.path == tmp_path / "cache/cryobench/models/9zzz.cif.gz"
    assert len(specimen.mixture.weights) == 2
    assert sorted(p.name for p in specimen.path.parent.iterdir()) == ["9zzz.cif.gz", "9zzz.cif.gz.sha256"]
    monkeypatch.setenv("CRYOBENCH_PDB_URL", "http://127.0.0.1:9")
    find("pdb:9zzz")
    assert len(asked) == 1
    specimen.path.write_bytes(gzip.compress(MODEL.replace("1.4", "1.5").encode()))
    with pytest.raises(InputError, match=r"9zzz\.cif\.gz to have the SHA-256 recorded"):
        find("pdb:9ZZZ")


def test_a_map_is_downloaded(archive, tmp_path):
    root, _ = archive
    write_map(tmp_path / "a.mrc", np.random.default_rng(0).normal(size=(6, 6, 6)), 3.0)
    (root / "EMD-12345/map").mkdir(parents=True)
    (root / "EMD-12345/map/emd_12345.map.gz").write_bytes(gzip.compress((tmp_path / "a.mrc").read_bytes()))
    specimen = find("emdb:12345", symmetry="D2")
    assert isinstance(specimen, DensityMap)
    assert specimen.density(8, 3.0).shape == (8, 8, 8)


@pytest.mark.parametrize("how", ["missing", "truncated", "web page", "other gzip"])
def test_a_download_that_is_not_the_file_is_thrown_away(archive, tmp_path, how):
    root, _ = archive
    packed = gzip.compress(MODEL.encode())
    content = {
        "missing": None,
        "truncated": packed[:-9],
        "web page": b"<html>sorry</html>",
        "other gzip": gzip.compress(b"nothing like it"),
    }[how]
    if content is not None:
        (root / "9zzz.cif.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"download failed: .*Fetch http://127.0.0.1:\d+/9zzz\.cif\.gz elsewhere"):
        find("pdb:9ZZZ")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]

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
from cryobench.specimens.catalogue import describe_options, find, list_specimens, read_catalogue
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
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for variable in ("CRYOBENCH_PDB_URL", "CRYOBENCH_EMDB_URL"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_port}")
    yield root, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_catalogue_ships_what_it_names():
    rows = {name: row for name, *row in list_specimens()}
    assert {"phantom", "phantom-c1", "phantom-o", "phantom-ribosome", "phantom-path"} <= set(rows)
    assert rows["betagal"][:2] == ["D2", "PDB 5A1A"]
    assert rows["ribosome"][:2] == ["C1", "EMD-2660"]
    assert {"apoferritin", "cxcr4"} <= set(rows)
    assert all(about for _, _, about in rows.values())
    for entry in read_catalogue().values():
        assert (entry.source in ("phantom", "path")) == (entry.accession is None)


def test_the_phantom_needs_nothing():
    assert isinstance(find("phantom"), Phantom)


def test_importing_the_catalogue_and_listing_it_is_light():
    code = (
        "import sys; from cryobench.specimens.catalogue import list_specimens; list_specimens();"
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
        ("phantom", {"symmetry": "C3"}, "setting of specimen 'phantom', got 'symmetry'"),
        ("phantom,resolution=3", {}, "got 'resolution'"),
        ("emdb:3197", {"resolution": 3.0}, "got 'resolution'"),
        ("my.cif,resoluton=3", {}, "got 'resoluton'; did you mean 'resolution'"),
        ("my.cif,resolution=3,resolution=4", {}, "resolution twice"),
        ("my.cif,scattering=neutron", {}, "option scattering: .*'molmap' or 'electron', got 'neutron'"),
        ("my.cif,b_factors=perhaps", {}, "option b_factors: .*got 'perhaps'"),
        ("my.cif,resolution=-1", {}, "option resolution: .*greater than or equal to 0, got '-1'"),
        ("my.cif,resolution=nan", {}, "option resolution: .*finite"),
        ("my.cif,average=2", {}, "expected a voxel_size with average=2"),
        ("my.cif", {"symmetry": "Q9"}, "point group"),
        ("my.cif", {"resolution": 0.0}, "resolution above 0"),
        ("pdb:zz", {}, "PDB accession"),
        ("emdb:5A1A", {}, "EMDB accession"),
    ],
)
def test_options_and_accessions_that_mean_nothing_are_refused(tmp_path, monkeypatch, spec, options, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.cif").write_text(MODEL)
    with pytest.raises((InputError, UnknownName), match=problem):
        find(spec, **options)


def test_options_follow_the_name(data_directory, monkeypatch):
    monkeypatch.setenv("CRYOBENCH_DATA", str(data_directory))
    specimen = find("betagal,scattering=electron,b_factors=yes,resolution=4,voxel_size=0.637,average=2")
    assert isinstance(specimen, AtomicModel)
    assert (specimen.scattering, specimen.b_factors, specimen.resolution) == ("electron", True, 4.0)
    assert (specimen.voxel_size, specimen.average, specimen.symmetry) == (0.637, 2, "D2")
    assert specimen.name == "betagal,scattering=electron,b_factors=yes,resolution=4,voxel_size=0.637,average=2"
    assert find("betagal,resolution=4", resolution=6).resolution == 6.0  # what is given by hand comes first


def test_a_comma_in_the_name_of_a_file_is_no_option(tmp_path):
    write_map(tmp_path / "a,voxel_size=1.mrc", np.ones((4, 4, 4)), 2.0)
    assert find(str(tmp_path / "a,voxel_size=1.mrc")).voxel_sizes == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    "spec", ["phantom", "phantom-path", "betagal", "emdb:3197", "phantom + betagal", "pdb:6Z6U,b_factors=yes"]
)
def test_show_tells_a_newcomer_what_it_is(spec, data_directory, monkeypatch):
    monkeypatch.setenv("CRYOBENCH_DATA", str(data_directory))
    options = {name: (default, about) for name, default, about in describe_options(spec)}
    facts = dict(find(spec).facts())
    assert all(heading and told for heading, told in facts.items())
    assert all(about for _, about in options.values())
    if "betagal" in spec and "+" not in spec:
        assert (options["resolution"][0], options["b_factors"][0], options["average"][0]) == ("2.5", "no", "1")
    if spec in ("phantom", "phantom + betagal"):
        assert not options


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
    assert not left_over(tmp_path)


def left_over(tmp_path):
    """Files in the cache."""
    return [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.name != ".lock"]


def test_a_word_forbids_the_network(archive, tmp_path, monkeypatch):
    root, asked = archive
    (root / "9zzz.cif.gz").write_bytes(gzip.compress(MODEL.encode()))
    monkeypatch.setenv("CRYOBENCH_OFFLINE", "1")
    with pytest.raises(InputError, match=r"CRYOBENCH_OFFLINE forbids it\. Fetch http.*9zzz\.cif\.gz elsewhere"):
        find("pdb:9ZZZ")
    assert not asked
    monkeypatch.setenv("CRYOBENCH_OFFLINE", "0")
    find("pdb:9ZZZ")
    monkeypatch.setenv("CRYOBENCH_OFFLINE", "1")
    assert isinstance(find("pdb:9ZZZ"), AtomicModel)  # what is in the cache needs no network


def test_a_download_is_kept_and_held_to_its_hash(archive, tmp_path, monkeypatch):
    root, asked = archive
    (root / "9zzz.cif.gz").write_bytes(gzip.compress(MODEL.encode()))
    specimen = find("pdb:9ZZZ")
    assert isinstance(specimen, AtomicModel)
    assert specimen.path == tmp_path / "cache/cryobench/models/9zzz.cif.gz"
    assert len(specimen.mixture.weights) == 2
    assert sorted(p.name for p in specimen.path.parent.iterdir()) == [".lock", "9zzz.cif.gz", "9zzz.cif.gz.sha256"]
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


@pytest.mark.parametrize("how", ["missing", "truncated", "web page", "other gzip", "other entry"])
def test_a_download_that_is_not_the_file_is_thrown_away(archive, tmp_path, how):
    root, _ = archive
    packed = gzip.compress(MODEL.encode())
    content = {
        "missing": None,
        "truncated": packed[:-9],
        "web page": b"<html>sorry</html>",
        "other gzip": gzip.compress(b"nothing like it"),
        "other entry": gzip.compress(MODEL.replace("9ZZZ", "1ABC").encode()),
    }[how]
    if content is not None:
        (root / "9zzz.cif.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"download failed: .*Fetch http://127.0.0.1:\d+/9zzz\.cif\.gz elsewhere"):
        find("pdb:9ZZZ")
    assert not left_over(tmp_path)


@pytest.mark.parametrize("how", ["shorter", "longer", "other mode", "no map"])
def test_a_map_whose_header_lies_is_thrown_away(archive, tmp_path, how):
    root, _ = archive
    write_map(tmp_path / "a.mrc", np.ones((6, 6, 6)), 3.0)
    whole = (tmp_path / "a.mrc").read_bytes()
    content = {
        "shorter": whole[:-4],
        "longer": whole + bytes(100),
        "other mode": whole[:12] + (4).to_bytes(4, "little") + whole[16:],
        "no map": whole[:208] + b"PAM " + whole[212:],
    }[how]
    (root / "EMD-12345/map").mkdir(parents=True)
    (root / "EMD-12345/map/emd_12345.map.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"download failed: expected (b'MAP '|[\d,]+ bytes as the header states)"):
        find("emdb:12345")
    assert not left_over(tmp_path)

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from cnnkit import registry
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Request, Source, SourceKind, open_source
from cnnkit.data.sources.archive import ArchiveSource
from cnnkit.data.sources.digits import DigitsSource, digits
from cnnkit.data.sources.folder import FolderSource
from cnnkit.errors import DataError, PluginError

INSTALLED = registry.find(registry.SOURCES)


@pytest.mark.parametrize("kind", ["archive", "csv", "digits", "folder", "hf", "parquet", "shards", "torchvision"])
def test_built_in_kinds_are_entry_points_and_load_without_their_packages(kind: str) -> None:
    found, entry = registry.load(registry.SOURCES, kind)
    assert isinstance(found, SourceKind)
    assert entry.package == "cnnkit"
    assert registry.peek(entry) == registry.Peek(found.summary, None)


@pytest.mark.parametrize("name", ["images", "images.zip", "digits", "torchvision:CIFAR10", "hf:beans"])
def test_a_folder_of_any_name_is_a_folder(image_folder, name: str) -> None:
    image_folder(folder=name)
    assert isinstance(open_source(name), FolderSource)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.TAR.GZ", "a.tgz", "a.tbz2", "a.tar.xz"])
def test_a_file_with_the_suffix_of_an_archive_is_an_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"{name}: damaged, or no (zip|tar)"):
        open_source(name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "--data is missing: name a folder of class folders, such as --data ./images, or try --data digits"),
        (
            "gone",
            "--data gone: no such file or folder, and no source .*: archive, .*, torchvision; .* cnnkit plugins list --group sources$",
        ),
        ("digit", "did you mean 'digits'"),
        ("./gone", "--data gone: no such folder"),
        ("./gone.zip", r"--data gone\.zip: no such file; expected a \.zip"),
        ("./gone.csv", r"--data gone\.csv: no such file; expected a CSV"),
    ],
)
def test_an_unknown_source_is_refused(data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(data)


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Install a package with the source ``mine`` from the module `code`."""
    info = tmp_path / "site/acme_source-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-source\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[cnnkit.sources]\nmine = acme_source:mine\n")
    (tmp_path / "site/acme_source.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "acme_source", raising=False)


SOURCE = """
from cnnkit.data.source import Record, SourceKind
class Mine:
    notes = ()
    records = [Record("a.png", "a")]
    def __init__(self, request): self.request, self.name = request, request.name
    def read(self, record): print("reading"); return GIVEN
    def stamp(self, record): return str(self.request)
mine = SourceKind(open=Mine, summary="mine")
"""


def test_a_source_of_another_package_gets_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, SOURCE)
    opened = open_source("mine:a/b:c", download=True, group_by="patient")
    assert (opened.name, opened.records) == ("a/b:c", (Record("a.png", "a"),))
    assert opened.stamp(opened.records[0]) == str(Request("a/b:c", download=True, group_by="patient"))
    assert open_source("acme-source:mine:a/b:c").name == "a/b:c"
    assert open_source("mine").name == ""


@pytest.mark.parametrize("given", ["None", "'text'", "1 / 0", "__import__('sys').exit()", "__import__('numpy').zeros((3, 3))"])
def test_an_image_that_a_source_fails_to_read_is_unreadable_and_prints_nothing_on_stdout(tmp_path, monkeypatch, capsys, given) -> None:
    install(tmp_path, monkeypatch, SOURCE.replace("GIVEN", given))
    opened = open_source("mine")
    with pytest.raises(UndecodableError, match=r"source 'mine' of acme-source 1\.2 (gives|cannot read a\.png)"):
        opened.read(opened.records[0])
    assert capsys.readouterr() == ("", "reading\n")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ('[("", "a")]', "path and label of a record must be text"),
        ('[("a.png", 3)]', "path and label of a record must be text"),
        ('[("a.png", "a", "tost")]', "puts a.png into the split 'tost'; allowed: train, val, test, or None"),
        ("[7]", "lists 7, which is no cnnkit.data.source.Record"),
        ("7", "gives no usable source: TypeError"),
        ('[("a",)]', "gives no usable source: TypeError"),
    ],
)
def test_records_that_are_none_are_refused_by_package(tmp_path, monkeypatch, change: str, problem: str) -> None:
    install(tmp_path, monkeypatch, SOURCE.replace('[Record("a.png", "a")]', change))
    with pytest.raises(PluginError, match=rf"source 'mine' of acme-source 1\.2 .*{re.escape(problem)}"):
        open_source("mine")


@pytest.mark.parametrize("opener", ["lambda request: None", "lambda request: 1 / 0", "lambda request: exit(3)"])
def test_a_kind_that_opens_no_source_is_refused_by_package(tmp_path, monkeypatch, opener: str) -> None:
    install(tmp_path, monkeypatch, SOURCE.replace("open=Mine", f"open={opener}"))
    with pytest.raises(PluginError, match=r"source 'mine' of acme-source 1\.2 (cannot open|gives a NoneType, which is no source)"):
        open_source("mine")


def test_an_entry_point_without_a_source_kind_is_refused_by_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "mine = 3\n")
    with pytest.raises(PluginError, match=r"source 'mine' of acme-source 1\.2 is a int, not a cnnkit\.data\.source\.SourceKind"):
        open_source("mine")


def test_built_in_sources_follow_the_protocol(image_folder) -> None:
    sources: list[Source] = [DigitsSource(), digits.open(Request("")), FolderSource(image_folder())]
    for source in sources:
        assert source.records
        assert source.stamp(source.records[0]) == source.stamp(source.records[0])


def test_an_archive_of_a_folder_has_the_records_of_the_folder(image_folder, tmp_path: Path) -> None:
    root: Path = image_folder()
    packed = open_source(shutil.make_archive(str(tmp_path / "packed"), "zip", root))
    assert isinstance(packed, ArchiveSource)
    folder = open_source(str(root))
    assert packed.records == folder.records
    assert [packed.read(record) for record in packed.records] == [folder.read(record) for record in folder.records]

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, empty_classes, open_source
from cnnkit.data.sources import bounds, tarred
from cnnkit.data.sources.archive import ArchiveSource, plain_name, wrapping_folder
from cnnkit.errors import DataError

FILES = {"ants/1.jpg": b"ant 1", "ants/2.jpg": b"ant 2" * 500, "bees/1.jpg": b"bee"}
Make = Callable[..., Path]


def write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType] (the mode is no literal)
        for name, content in files.items():
            archive.addfile(member(name, content), io.BytesIO(content))
    return path


def member(name: str, content: bytes = b"", **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.fixture(params=["zip", "stored.zip", "bz.zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "named.tar"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a function that writes an archive of each kind; the last is a compressed tar under a wrong name."""

    def write(files: Mapping[str, bytes]) -> Path:
        path = tmp_path / f"images.{request.param}"
        if request.param.endswith("zip"):
            methods = {"zip": zipfile.ZIP_DEFLATED, "stored.zip": zipfile.ZIP_STORED, "bz.zip": zipfile.ZIP_BZIP2}
            return write_zip(path, files, methods[request.param])
        return write_tar(path, files, {"tar": "w", "named.tar": "w:gz"}.get(request.param) or f"w:{request.param[4:]}")

    return write


def paths(source: ArchiveSource) -> list[str]:
    return [record.path for record in source.records]


def test_members_become_records_and_are_read_without_unpacking(make: Make, tmp_path: Path) -> None:
    path = make(FILES)
    source = open_source(str(path))
    assert isinstance(source, ArchiveSource)
    assert source.name == str(path)
    assert source.records == tuple(Record(name, name.split("/")[0]) for name in FILES)
    assert {record.path: source.read(record) for record in source.records} == FILES
    assert [item for item in tmp_path.rglob("*") if item.is_file()] == [path]


def test_stamps_change_with_the_archive_only(make: Make) -> None:
    path = make(FILES)
    first, second = ArchiveSource(path), ArchiveSource(path)
    stamps = [first.stamp(record) for record in first.records]
    assert stamps == [second.stamp(record) for record in second.records]
    assert len(set(stamps)) == 3
    path.unlink()
    changed = ArchiveSource(make({**FILES, "bees/1.jpg": b"BEE"}))
    if path.suffix == ".tar" or ".tar." in path.name:
        os.utime(path, ns=(0, 1))
        changed = ArchiveSource(path)  # a tar has no checksums: the time of the archive replaces them
    assert changed.stamp(changed.records[2]) != stamps[2]


def test_split_folders_inside_a_wrapping_folder_are_found(make: Make) -> None:
    source = ArchiveSource(make({f"download/pets/{split}/{name}": b"x" for split in ("train", "valid") for name in FILES}))
    assert source.records[0] == Record("download/pets/train/ants/1.jpg", "ants", "train")
    assert {record.split for record in source.records} == {"train", "val"}
    assert source.notes[0] == "the folder 'download/pets' around the class folders does not count as a class"
    assert source.read(source.records[0]) == b"x"


def test_litter_loose_images_and_other_files_are_no_samples(make: Make) -> None:
    litter = ["__MACOSX/ants/._1.jpg", "ants/.ipynb_checkpoints/1.jpg", ".git/1.jpg", "ants/Thumbs.db"]
    source = ArchiveSource(make({**FILES, **dict.fromkeys(litter, b""), "loose.jpg": b"", "ants/readme.txt": b""}))
    assert paths(source) == list(FILES)
    assert [note for note in source.notes if "unpacks" not in note] == [
        "1 image outside of class folders was left out",
        "1 file without an image was left out (1 .txt)",
    ]


def test_no_path_leads_out_of_an_archive(make: Make) -> None:
    bad = ["../escape/1.jpg", "/etc/1.jpg", "ants/../../1.jpg", "ants/../bees/9.jpg", "C:/ants/1.jpg"]
    source = ArchiveSource(make({**FILES, **dict.fromkeys(bad, b"")}))
    assert paths(source) == list(FILES)
    assert "5 members with a path that leads out of the archive were left out" in source.notes


def test_members_of_one_name_count_once_and_the_last_one_is_read(make: Make) -> None:
    path = make(FILES)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("ants/1.jpg", b"newer")
    else:
        path = write_tar(path, {**FILES, "./ants/1.jpg": b"newer"})
    source = ArchiveSource(path)
    assert paths(source) == list(FILES)
    assert source.read(source.records[0]) == b"newer"
    assert "1 member with a repeated name was left out" in source.notes


def test_threads_read_at_the_same_time(make: Make) -> None:
    random = np.random.default_rng(0)
    files = {f"{label}/{number}.jpg": random.bytes(20_000) for label in "ab" for number in range(40)}
    source = ArchiveSource(make(files))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(source.read, list(source.records) * 3))
    assert read == [files[record.path] for record in source.records] * 3


def test_an_archive_without_class_folders_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match=r"images\..*: no images found in class folders; .*there is 1 image outside of class folders"):
        ArchiveSource(make({"1.jpg": b""}))


@pytest.mark.parametrize("name", ["images.zip", "images.tar", "images.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"this is no archive", b"PK\3\4" + 600 * b"x", b"\x1f\x8b" + 600 * b"x"])
def test_a_file_that_is_no_archive_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: damaged, or no (zip|tar): .*; test it with"):
        open_source(name)


def test_a_truncated_archive_is_refused(make: Make) -> None:
    random = np.random.default_rng(0)
    path = make({f"{label}/{number}.jpg": random.bytes(3_000) for label in "ab" for number in range(20)})
    whole = path.read_bytes()
    for kept in (0.3, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(DataError, match=rf"{path.name}: damaged, or no (zip|tar)"):
            ArchiveSource(path)


def test_a_tar_with_a_damaged_header_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"bees/1.jpg")] ^= 1  # the header's checksum is now wrong
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.tar: damaged, or no tar: a header is damaged after 'ants/2\.jpg'"):
        ArchiveSource(path)


def test_a_tar_that_leads_back_to_its_own_header_is_refused(tmp_path: Path) -> None:
    header = bytearray(member("ants/1.jpg").tobuf())
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)  # the size, in the base-256 form of GNU
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "t.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(DataError, match=r"t\.tar: damaged, or no tar: .*(below zero|invalid|negative)"):
        ArchiveSource(tmp_path / "t.tar")


def test_a_damaged_member_of_a_zip_leaves_the_others_readable(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", FILES, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"ant 1")] ^= 1
    path.write_bytes(content)
    source = ArchiveSource(path)
    with pytest.raises(UndecodableError, match="the archive is damaged here: size or checksum differs from its index"):
        source.read(source.records[0])
    assert source.read(source.records[2]) == b"bee"


def test_a_replaced_archive_is_not_read_at_the_old_offsets(tmp_path: Path) -> None:
    for path, write in ((tmp_path / "t.zip", write_zip), (tmp_path / "t.tar", write_tar)):
        source = ArchiveSource(write(path, FILES))
        write(path, {"zebras/1.jpg": b"zebra", **FILES})
        with pytest.raises(UndecodableError, match="the archive has changed since it was listed"):
            source.read(source.records[0])
        path.unlink()
        with pytest.raises(UndecodableError, match="No such file"):
            source.read(source.records[0])


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.addfile(member("ants/1.jpg", b"x"), io.BytesIO(b"x"))
        archive.addfile(member("ants/2.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
        archive.addfile(member("ants/3.jpg", type=tarfile.LNKTYPE, linkname="ants/1.jpg"))
        archive.addfile(member("ants/4.jpg", type=tarfile.FIFOTYPE))
        archive.addfile(member("ants/5.jpg", type=tarfile.CHRTYPE))
        archive.addfile(member("bees", type=tarfile.DIRTYPE))
    source = ArchiveSource(tmp_path / "t.tar")
    assert paths(source) == ["ants/1.jpg"]
    assert "4 members of the kinds link, device or sparse were left out" in source.notes
    link = zipfile.ZipInfo("ants/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(write_zip(tmp_path / "t.zip", FILES), "a") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("wasps")
    source = ArchiveSource(tmp_path / "t.zip")
    assert paths(source) == list(FILES)
    assert "1 member of the kinds link or device was left out" in source.notes


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag in the index
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.zip: encrypted \('ants/1\.jpg'\); unpack it and name the folder"):
        ArchiveSource(path)


def test_a_bomb_in_a_zip_is_unreadable_without_being_unpacked(tmp_path: Path) -> None:
    zeros = bytes(bounds.MIN_RATIO_BYTES + 1)
    source = ArchiveSource(write_zip(tmp_path / "t.zip", {"ants/1.jpg": zeros, "ants/2.jpg": zeros[:-1], "bees/1.jpg": b"x"}))
    with pytest.raises(UndecodableError, match=r"0\.01 MB unpack to 10 MB, more than 200-fold: a decompression bomb, not an image"):
        source.read(source.records[0])
    assert source.read(source.records[1]) == zeros[:-1]


def test_a_member_is_not_unpacked_beyond_its_stated_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", {"ants/1.jpg": bytes(1_000_000), "bees/1.jpg": b"x"})
    content = path.read_bytes()
    assert content.count((1_000_000).to_bytes(4, "little")) == 2  # in the member's header and in the index
    path.write_bytes(content.replace((1_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little")))
    source = ArchiveSource(path)
    with pytest.raises(UndecodableError, match="size or checksum differs from its index"):
        source.read(source.records[0])


@pytest.mark.parametrize(
    ("packed", "size", "reason"),
    [
        (500 * bounds.MEGA, 512 * bounds.MEGA, ""),
        (500 * bounds.MEGA, 512 * bounds.MEGA + 1, "512 MB, more than the limit of 512 MB"),
        (600 * bounds.MEGA, 1, "600 MB, more than the limit"),
        (1, 10 * bounds.MEGA, ""),
        (100_000, 20 * bounds.MEGA, ""),
        (100_000, 20 * bounds.MEGA + 1, "0.10 MB unpack to 20 MB, more than 200-fold"),
    ],
)
def test_the_limits_of_a_member(packed: int, size: int, reason: str) -> None:
    found = bounds.refusal_reason(packed, size)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_a_huge_member_of_a_tar_is_unreadable(tmp_path: Path) -> None:
    with (tmp_path / "t.tar").open("wb") as file:  # sparse: a file of 600 MB that takes no disk space
        file.write(member("ants/1.jpg", size=600 * bounds.MEGA).tobuf())
        file.truncate(512 + 600 * bounds.MEGA + 1024)
    source = ArchiveSource(tmp_path / "t.tar")
    with pytest.raises(UndecodableError, match="600 MB, more than the limit of 512 MB"):
        source.read(source.records[0])


def test_a_zip_whose_members_overlap_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", {"ants/1.jpg": bytes(100), "bees/1.jpg": b"x"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    index = content.index(b"PK\1\2")
    content[index + 20 : index + 24] = (5_000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"t\.zip: its members take more bytes than the file has: the archive is damaged, or its members overlap"
    ):
        ArchiveSource(path)


def test_an_unknown_compression_method_is_named(tmp_path: Path) -> None:
    source = ArchiveSource(write_zip(tmp_path / "t.zip", FILES, zipfile.ZIP_LZMA))
    with pytest.raises(UndecodableError, match=r"packed with method 14, which is not supported; pack it with deflate \(8\)"):
        source.read(source.records[0])


def test_a_bomb_in_a_compressed_tar_is_refused_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "t.tar.gz", {"ants/1.jpg": bytes(3_000_000)}, "w:gz")
    monkeypatch.setattr(tarred, "MAX_BYTES", 1_000_000)
    with pytest.raises(DataError, match=r"t\.tar\.gz: 0\.00 MB unpack to more than 1 MB: a decompression bomb, not images"):
        ArchiveSource(path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_compressed_tar_that_does_not_fit_on_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "t.tar.gz", {"ants/1.jpg": bytes(3_000_000)}, "w:gz")
    monkeypatch.setattr(tarred, "_MAX_DISK_SHARE", 1e-9)
    with pytest.raises(DataError, match=r"t\.tar\.gz: unpacking needs more than .* in .*cache; point CNNKIT_CACHE to"):
        ArchiveSource(path)


def test_a_compressed_tar_has_a_note_on_unpacking(tmp_path: Path) -> None:
    (note,) = ArchiveSource(write_tar(tmp_path / "t.tar.gz", FILES, "w:gz")).notes
    assert note == "every command unpacks t.tar.gz again; a .zip or an uncompressed .tar starts sooner"


def test_zstd_is_read_or_refused_with_the_command_to_unpack(tmp_path: Path) -> None:
    (tmp_path / "t.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + 20 * b"x")
    with pytest.raises(DataError, match=r"zstd needs Python 3\.14 or later; type: zstd -d .*t\.tar\.zst|damaged"):
        open_source("t.tar.zst")


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    odd = ["kaf\udce9/1.jpg", "line\nbreak/1.jpg", "\N{ANT}/1.jpg"]
    with tarfile.open(tmp_path / "t.tar", "w", encoding="utf-8", errors="surrogateescape", format=tarfile.GNU_FORMAT) as archive:
        for name in odd:
            archive.addfile(member(name, b"x"), io.BytesIO(b"x"))
    source = ArchiveSource(tmp_path / "t.tar")
    assert {record.path for record in source.records} == set(odd)
    assert all(source.read(record) == b"x" for record in source.records)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("\N{ANT}/1.jpg".encode(), "\N{ANT}/1.jpg"),  # UTF-8 without its flag, as many programs write it
        (b"caf\x82/1.jpg", "caf\N{LATIN SMALL LETTER E WITH ACUTE}/1.jpg"),  # code page 437, the default of the format
        (b"ants\\1.jpg", "ants/1.jpg"),  # separators of programs for Windows
    ],
)
def test_names_in_a_zip_without_a_stated_encoding(tmp_path: Path, stored: bytes, name: str) -> None:
    stand_in = "x" * len(stored)
    path = write_zip(tmp_path / "t.zip", {stand_in: b"content"})
    content = path.read_bytes()
    index = content.index(b"PK\1\2")
    content = content[: index + 5] + b"\0" + content[index + 6 :]  # made by: DOS
    path.write_bytes(content.replace(stand_in.encode(), stored))
    source = ArchiveSource(path)
    assert paths(source) == [name]
    assert source.read(source.records[0]) == b"content"


@pytest.mark.parametrize(
    ("name", "plain"),
    [("./ants//1.jpg", "ants/1.jpg"), ("/ants/1.jpg", None), ("a/../b.jpg", None), ("D:/1.jpg", None), ("..", None), ("./", None)],
)
def test_names_are_made_plain_or_refused(name: str, plain: str | None) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    ("names", "wrapper"),
    [
        (["ants/1.jpg", "bees/1.jpg"], ""),
        (["ants/1.jpg"], ""),
        (["x/ants/1.jpg", "x/bees/1.jpg"], "x/"),
        (["x/ants/1.jpg", "x/cover.jpg", "readme.jpg"], "x/"),
        (["x/ants/1.jpg", "x/bees/2019/1.jpg", "notes/readme.txt"], "x/"),
        (["x/y/train/ants/1.jpg", "x/y/val/ants/1.jpg"], "x/y/"),
        (["train/ants/1.jpg", "train/bees/1.jpg"], ""),
        (["x/train/ants/1.jpg", "x/train/bees/1.jpg"], "x/"),
        ([], ""),
    ],
)
def test_the_folder_around_the_classes_is_found(names: list[str], wrapper: str) -> None:
    assert wrapping_folder(names) == wrapper


def test_a_missing_archive_is_refused() -> None:
    with pytest.raises(DataError, match=r"--data gone\.zip: no such file; expected a \.zip or \.tar of class folders"):
        open_source("archive:gone.zip")
    with pytest.raises(DataError, match=r"--data archive: name the file, such as --data images\.zip"):
        open_source("archive")


def test_runs_beside_the_folder_of_images_are_no_folder_around_them(make: Make) -> None:
    own = {f"runs/001-a/{name}": b"x" for name in ("config.json", "split.csv", "curves.png")}
    source = ArchiveSource(make({**{f"images/{name}": content for name, content in FILES.items()}, **own}))
    assert {record.label for record in source.records} == {"ants", "bees"}
    assert "the folder 'images' around the class folders does not count as a class" in source.notes


@pytest.mark.parametrize("name", ["d.zip", "d.tar"])
@pytest.mark.parametrize("wrapper", ["", "data/"])
def test_an_empty_class_folder_in_an_archive_is_known(tmp_path: Path, name: str, wrapper: str) -> None:
    for folder in ("ants", "bees", "birds", ".hidden"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for folder in ("ants", "bees"):
        (tmp_path / "data" / folder / "1.jpg").write_bytes(b"picture")
    root, base = (tmp_path, "data") if wrapper else (tmp_path / "data", ".")
    shutil.make_archive(str(tmp_path / "d"), name[2:], root, base)
    source = ArchiveSource(tmp_path / name)
    assert paths(source) == [f"{wrapper}ants/1.jpg", f"{wrapper}bees/1.jpg"]
    assert empty_classes(source) == {"birds": 0}

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cnnkit.errors import (
    MAX_LISTED,
    closest,
    counted,
    cut,
    describe_fault,
    hide_passwords,
    is_fault,
    is_out_of_memory,
    listed,
    shell_line,
    shell_path,
    shell_word,
    shortened,
    verb,
)


def test_counts_agree_with_their_nouns() -> None:
    assert (counted(1), counted(1797), counted(2, "class", "classes")) == ("1 image", "1,797 images", "2 classes")
    assert (verb(1, "is", "are"), verb(0, "is", "are")) == ("is", "are")


def test_a_long_list_is_cut_and_the_rest_is_counted():
    names = [f"c{number}" for number in range(1500)]
    assert listed(names[:3]) == "c0, c1, c2"
    assert listed(names[:MAX_LISTED]).endswith("c9")
    assert listed(names).endswith("c8, c9 and 1,490 more")
    assert listed(names, 2) == "c0, c1 and 1,498 more"
    assert listed([]) == ""


def test_a_list_of_lines_ends_with_a_line():
    assert listed(["a: broken", "b: empty", "c: gone"], 2, "\n  ") == "a: broken\n  b: empty\n  and 1 more"


def test_items_may_be_cut_before_they_are_joined():
    assert shortened(["a", "b", "c"], 3) == ["a", "b", "c"]
    assert shortened(["a", "b", "c"], 1) == ["a", "2 more"]


def test_a_long_text_is_cut_to_its_length():
    assert cut("abcd", 4) == "abcd"
    assert cut("abcde", 4) == "abc…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host:5432/db?sslmode=require", "postgresql://me:***@host:5432/db?sslmode=require"),
        ("--storage=postgresql://me:secret@host/db", "--storage=postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:se%40cr%3Aet%2F@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql://me:se@cr:et/@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@corp:secret@host/db", "postgresql://me@corp:***@host/db"),
        ("postgresql://me:my secret@host/db", "postgresql://me:***@host/db"),
        ("mysql://:secret@[::1]:3306/db", "mysql://:***@[::1]:3306/db"),
        ("postgresql://host/db?user=me&password=secret&sslmode=require", "postgresql://host/db?user=me&password=***&sslmode=require"),
        ("failed: a://b:c@d/e, then f://g:h@i; try again", "failed: a://b:***@d/e, then f://g:***@i; try again"),
        ("http://localhost:5000 is not known to me@host", "http://localhost:5000 is not known to me@host"),
        ("--data=/mnt/me@host/a:b", "--data=/mnt/me@host/a:b"),
        ("sqlite:///C:/me@host/x.db", "sqlite:///C:/me@host/x.db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("http://me:se@cr:et@host:80/a@b.tar", "http://me:***@host:80/a@b.tar"),
        ("read https://me:se/cret@host/a.tar again", "read https://me:***@host/a.tar again"),
        ("https://token@host/a.tar", "https://***@host/a.tar"),
        ("http://host:8080/a@b.tar", "http://host:8080/a@b.tar"),
        ("http://host:8080?of=me@b", "http://host:8080?of=me@b"),
        ("https://b/a.tar?X-Amz-Date=1&X-Amz-Signature=secret&part=1", "https://b/a.tar?X-Amz-Date=1&X-Amz-Signature=***&part=1"),
        ("https://b/a.tar?sv=1&sig=secret", "https://b/a.tar?sv=1&sig=***"),
        ("https://b/a.tar?access_token=secret#x", "https://b/a.tar?access_token=***#x"),
        ("--trials", "--trials"),
    ],
)
def test_a_password_in_a_url_is_hidden(text, shown):
    assert hide_passwords(text) == shown


def test_the_nearest_names_end_a_sentence():
    assert closest("resnt", ["resnet", "vgg"]) == "; did you mean 'resnet'?"
    assert closest("xyz", ["resnet", "vgg"]) == "."


@pytest.mark.parametrize(
    ("error", "memory", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), False, "a/b: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), False, "there: Input/output error"),
        (MemoryError(), True, "the memory is full"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True, "the memory is full"),
        (RuntimeError("can't start new thread"), False, "can't start new thread"),
        (RuntimeError("CUDA error: unspecified launch failure\nCompile with ..."), False, "CUDA error: unspecified launch failure"),
    ],
)
def test_faults_of_the_machine_are_told_from_bugs(error, memory, said):
    assert is_fault(error)
    assert is_out_of_memory(error) == memory
    assert describe_fault(error, "there") == said


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), KeyError("out of memory"), ValueError("CUDA error")])
def test_bugs_are_no_faults(error):
    assert not is_fault(error)


SHELL_NAMES = [
    "plain.jpg",
    "my photo.jpg",
    "it's.jpg",
    "new\nline's\\.jpg",
    "\x1b[31mred.jpg",
    "byte\udce9a.jpg",
    "next\x85.jpg",
    "猫 😀.jpg",
    "",
]


@pytest.mark.parametrize("name", SHELL_NAMES)
def test_a_word_of_a_shell_is_printable_and_means_the_name(name: str) -> None:
    word = shell_word(name)
    assert word.isprintable()
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    printed = subprocess.run([bash, "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert printed == os.fsencode(name)


def test_a_path_is_no_flag() -> None:
    assert [shell_path(path) for path in (Path("-dash.jpg"), "a b", "/-x", "x-")] == ["./-dash.jpg", "'a b'", "/-x", "x-"]
    assert shell_path("-new\n.jpg") == "$'./-new\\x0a.jpg'"


def test_a_command_line_quotes_each_word() -> None:
    assert shell_line(["cnnkit", "predict", "a b.jpg", "c\nd.jpg"]) == r"cnnkit predict 'a b.jpg' $'c\x0ad.jpg'"

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnnkit.config import passwords
from cnnkit.config.passwords import keep_passwords, with_passwords
from cnnkit.config.settings import DataConfig
from cnnkit.errors import DataError


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    passwords._passwords.clear()
    yield
    passwords._passwords.clear()


@pytest.mark.parametrize(
    ("address", "hidden"),
    [
        ("http://me:se@cr:et@host:80/{0..1}.tar", "http://me:***@host:80/{0..1}.tar"),
        ("parquet:https://token@host/a.parquet", "parquet:https://***@host/a.parquet"),
        ("https://b/a.tar?part=1&X-Amz-Signature=se/cret&b=2#c", "https://b/a.tar?part=1&X-Amz-Signature=***&b=2#c"),
        ("https://me:one@b/a.tar?token=two", "https://me:***@b/a.tar?token=***"),
        ("s3://bucket/a.tar", "s3://bucket/a.tar"),
        ("./a***/b", "./a***/b"),
    ],
)
def test_a_password_is_hidden_and_known_again(address: str, hidden: str) -> None:
    assert keep_passwords(address) == hidden
    assert keep_passwords(hidden) == hidden
    assert with_passwords(hidden) == address
    assert DataConfig(data=address).data == hidden


def test_each_file_of_a_pattern_has_the_password() -> None:
    keep_passwords("http://me:secret@host/{0..1}.tar?token=t")
    assert with_passwords("http://me:***@host/1.tar?token=***") == "http://me:secret@host/1.tar?token=t"


@pytest.mark.parametrize("address", ["http://me:***@other/1.tar", "http://you:***@host/1.tar", "http://host/1.tar?token=***"])
def test_a_password_of_another_server_is_not_known(address: str) -> None:
    keep_passwords("http://me:secret@host/1.tar?token=t")
    with pytest.raises(
        DataError, match=r"cnnkit keeps no password, so stars stand there; type the whole address again with --data; a login in"
    ):
        with_passwords(address)


def test_a_password_with_a_slash_must_be_encoded() -> None:
    with pytest.raises(DataError, match=r"^http://me:\*\*\*@host/1\.tar: the password holds a slash or a question mark; write %2F"):
        keep_passwords("http://me:se/cret@host/1.tar")

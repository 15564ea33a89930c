"""Passwords in addresses of data: kept in the memory of this process alone, so that no file and no message holds one."""

from __future__ import annotations

import re

from cnnkit.errors import DataError, hide_passwords


class HiddenPasswordError(DataError):
    """An address whose password is not known: it was hidden when the address was written to a file."""


STARS = "***"
_SERVER = re.compile(r"[a-zA-Z0-9+.-]+://[^/?#\s]*")
_LOGIN = re.compile(r"(?<=://)[^/?\s]*@")
_QUERY = re.compile(r"(?<=[?&])([^=&#]+)=([^&#]*)")

_passwords: dict[tuple[str, str], str] = {}  # by the server with its hidden login, and by the name in the query, empty for the login


def keep_passwords(address: str) -> str:
    """Return `address` with stars in place of its passwords, which this process remembers; another text is returned as it is.

    Raises `DataError` for a password with a character that separates the parts of an address.
    """
    hidden = hide_passwords(address) if "://" in address else address
    if hidden == address:
        return address
    login, hidden_login = _LOGIN.search(address), _LOGIN.search(hidden)
    if hidden_login and not login:
        raise DataError(f"{hidden}: the password holds a slash or a question mark; write %2F or %3F in its place")
    server = _server(hidden)
    if login and hidden_login and login[0] != hidden_login[0]:
        _passwords[server, ""] = login[0]
    shown = dict(_QUERY.findall(hidden))
    for name, value in _QUERY.findall(address):
        if value != shown.get(name):
            _passwords[server, name] = value
    return hidden


def with_passwords(address: str) -> str:
    """Return `address` with the passwords that `keep_passwords` remembers; raises `HiddenPasswordError` if not."""
    if STARS not in address:
        return address
    server = _server(address)

    def known(name: str) -> str:
        if (server, name) not in _passwords:
            raise HiddenPasswordError(
                f"{address}: cnnkit keeps no password, so stars stand there; type the whole address again with --data; "
                f"a login in ~/.netrc is found without typing it"
            )
        return _passwords[server, name]

    full = _LOGIN.sub(lambda login: known("") if STARS in login[0] else login[0], address, count=1)
    return _QUERY.sub(lambda part: f"{part[1]}={known(part[1])}" if part[2] == STARS else part[0], full)


def _server(address: str) -> str:
    """Return the scheme, login and host of `address`."""
    found = _SERVER.search(address)
    return found[0] if found else ""

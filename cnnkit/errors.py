"""The deliberate errors of cnnkit, each with the exit code of the command that it ends.

A message names the given value, the allowed values and the next thing to type. The error boundary in `cnnkit.cli.app` prints
it without a traceback. An error that is not a `CnnkitError` is a bug.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches

_BYTE = re.compile("[\udc80-\udcff]")  # a byte of a file name that is not UTF-8 (PEP 383)
MAX_LISTED = 10  # names in a message: about two lines


class CnnkitError(Exception):
    """The base of all deliberate errors; without a subclass of its own, a refusal before work started."""

    exit_code = 2


class ConfigError(CnnkitError):
    """A flag, recipe or configuration value that cannot be used."""


class DataError(CnnkitError):
    """A data source, image or split that cannot be used."""


class PluginError(CnnkitError):
    """An entry point that is missing, duplicated or does not load."""


class PluginFailedError(PluginError):
    """An error in the code of another package in the middle of a command."""

    exit_code = 3


class ModelFileError(CnnkitError):
    """A model file or run directory that cannot be used."""


class DamagedFileError(ModelFileError):
    """A file of a run whose content is not the content that cnnkit wrote."""


class MissingExtraError(CnnkitError):
    """An optional package that is needed and not installed."""


class CheckFailedError(CnnkitError):
    """A result that does not pass the requested check; the work was done."""

    exit_code = 1


class TrainingStoppedError(CnnkitError):
    """A training that ended in the middle; its work is kept, and the message says how to continue."""

    exit_code = 3


class RankLostError(TrainingStoppedError):
    """A training that ended because of another rank: `exit_code` is that of the other rank, which may have `reported` the cause."""

    def __init__(self, message: str, *, code: int = TrainingStoppedError.exit_code, reported: bool = False) -> None:
        super().__init__(message)
        self.exit_code = code
        self.reported = reported


class ServerStoppedError(CnnkitError):
    """A server whose model cannot be run any more."""

    exit_code = 3


# The login of a web address has no slash and no question mark, so the rest of the address may hold an @. One without a colon is a token.
_WEB_LOGIN = re.compile(r"(https?://)([^/?\s:@]*:)?[^/?\s]*@", re.IGNORECASE)
# A password with a slash that its writer did not encode: no number of a port stands there.
_SLASHED_LOGIN = re.compile(r"(https?://[^/\s:@]*:)(?!\d*(?:[/?#\s]|$)|\*{3}@)\S*@", re.IGNORECASE)
# The password of another URL ends at the last @ of the word, because it may hold one. It may hold spaces if the URL begins the text,
# unless a number follows, which is a port.
_PASSWORD = re.compile(
    r"(^\S*(?<!http)(?<!https)://[^/\s:]*:)(?!\d+\s)[^@]*@(?:\S*@)?|((?<!http)(?<!https)://[^/\s:]*:)\S*@", re.IGNORECASE
)
_QUERY_PASSWORD = re.compile(
    r"([?&](?:(?:ssl)?passw(?:or)?d|sig|(?:x-(?:amz|goog)-)?(?:signature|credential|security-token)|(?:access[_-]?|auth[_-]?)?token|api[_-]?key"
    r"|secret|awsaccesskeyid|googleaccessid)=)[^&#\s'\"]*?(?=[:;,.)]*(?:[&#\s'\"]|$))",  # without the end of a sentence
    re.IGNORECASE,
)

# Signs of a fault in the text of a `RuntimeError`: torch and Python have no types of their own for them.
_MEMORY_SIGNS = ("DefaultCPUAllocator", "MPS backend out of memory", "std::bad_alloc")
_FAULT_SIGNS = ("can't start new thread", "CUDA error", "cuDNN error", "CUBLAS_STATUS")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if `error` says that the memory of this machine or of a device is full; only CUDA has an exception of its own."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or any(sign in text for sign in _MEMORY_SIGNS)


def is_fault(error: BaseException) -> bool:
    """Return True for a fault of the machine: an error of the system, memory that is full, or a device that fails."""
    if isinstance(error, OSError) or is_out_of_memory(error):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _FAULT_SIGNS)


def describe_fault(error: BaseException, where: object) -> str:
    """Return a fault in one line, such as ``FILE: No space left on device``; `where` stands for an unknown file."""
    if isinstance(error, OSError):
        return f"{error.filename if isinstance(error.filename, str) else where}: {error.strerror or error}"
    if is_out_of_memory(error):
        return "the memory is full"
    return str(error).strip().partition("\n")[0]


def closest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: ``"; did you mean 'a' or 'b'?"`` for the names closest to `name`, else ``"."``."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(match) for match in near)}?" if near else "."


def hide_passwords(text: str) -> str:
    """Return `text`, a word of a command line or a message, with stars in place of the passwords in its URLs."""
    for pattern, shown in ((_WEB_LOGIN, r"\1\2***@"), (_SLASHED_LOGIN, r"\1***@"), (_PASSWORD, r"\1\2***@"), (_QUERY_PASSWORD, r"\1***")):
        text = pattern.sub(shown, text)
    return text


def cut(text: str, most: int) -> str:
    """Return `text`, or its first characters and ``…``, which are `most` characters in all."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(names: Iterable[str], most: int = MAX_LISTED) -> list[str]:
    """Return `names`, or the first `most` of them and ``7 more``."""
    found = list(names)
    return found if len(found) <= most else [*found[:most], f"{len(found) - most:,} more"]


def listed(names: Iterable[str], most: int = MAX_LISTED, separator: str = ", ") -> str:
    """Return ``a, b, c``, or ``a, b, c and 7 more`` for more than `most` names; `separator` may be a line break."""
    found = list(names)
    text = separator.join(found[:most])
    if len(found) <= most:
        return text
    return f"{text}{separator if separator.isspace() else ' '}and {len(found) - most:,} more"


def counted(count: int, noun: str = "image", plural: str = "") -> str:
    """Return ``1 image`` or ``1,797 images``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def verb(count: int, singular: str, plural: str) -> str:
    """Return the form that agrees with `count`."""
    return singular if count == 1 else plural


def left_out_note(count: int, noun: str, kind: str, plural: str = "") -> str:
    """Return ``1 image without a label was left out``: a note on files that are not used, where `kind` says which ones."""
    return f"{counted(count, noun, plural)} {kind} {verb(count, 'was', 'were')} left out"


def shell_word(text: str) -> str:
    r"""Return `text` as one word to type in a shell: ``'my photo.jpg'``, or ``$'new\nline.jpg'`` if it holds unprintable characters."""
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_typed, text))}'"


def shell_path(path: object) -> str:
    """Return a path as one word to type in a shell; ``./-dash.jpg`` where the name begins with a hyphen, as it would be a flag."""
    text = str(path)
    return shell_word(f"./{text}" if text.startswith("-") else text)


def shell_line(words: Iterable[str]) -> str:
    """Return a command line of `words`, each as `shell_word` returns it."""
    return " ".join(map(shell_word, words))


def _typed(letter: str) -> str:
    r"""Return `letter` between the quotes of ``$'...'``; the bytes of an unprintable one as ``\x0a``."""
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    errors = "surrogateescape" if _BYTE.match(letter) else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", errors))

"""The settings of ``cnnkit serve``: the address, and the limits of a request."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_HOST = "127.0.0.1"  # this machine alone
DEFAULT_PORT = 8000


@dataclass(frozen=True)
class ServeLimits:
    """The limits of the server; a request beyond one of them is refused.

    `queue` is the number of requests that wait for the network, `megabytes` the size of the body of a request, `megapixels` the size of
    an image, and `seconds` the time for the decoding of an image.
    """

    queue: int = 16
    megabytes: float = 32.0  # a photo of 24 megapixels in base64, or some photos of a phone
    megapixels: float = 50.0
    seconds: float = 10.0  # a JPEG of 100 megapixels takes 2 s on an idle core

"""HTTP prediction from an exported model, without torch."""

from __future__ import annotations

from importlib.util import find_spec

from cnnkit.errors import MissingExtraError

PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "multipart")  # of the extra serve


def require_packages() -> None:
    """Raise `MissingExtraError` if a package of the extra ``serve`` is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"cnnkit serve needs the package {missing[0]}; type: pip install 'cnnkit[serve]'")

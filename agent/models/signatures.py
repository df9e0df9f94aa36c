"""Whether somebody we trust has signed a release: Ed25519 over its digest.

Where no keys are configured `cryptography` is not even loaded: a gateway's memory is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runtime.errors import ConfigError
from schemas.release import ReleaseError, parse_signature

if TYPE_CHECKING:
    from runtime.ed25519 import PublicKey


class Trust:
    """The keys that count. With none, everything is taken as it is."""

    def __init__(self, keys: Mapping[str, PublicKey]) -> None:
        self._keys = dict(keys)

    @property
    def asks(self) -> bool:
        """Whether a release has to be signed."""
        return bool(self._keys)

    def mistake(self, digest: str, signature: str) -> str:
        """Why a release with this signature is not taken; empty where it is."""
        if not self._keys:
            return ""
        if not signature:
            return "it is not signed, and models.trusted_keys asks for it"
        try:
            said = parse_signature(signature)
        except ReleaseError as error:
            return str(error)
        if said.key not in self._keys:
            return f"it is signed with the key {said.key!r}, which is not among models.trusted_keys"
        if not self._keys[said.key].verifies(said.signature, bytes.fromhex(digest)):
            return f"its signature is not one of the key {said.key!r} for these bytes"
        return ""


def read_trust(keys: Mapping[str, str]) -> Trust:
    """The `[models] trusted_keys`: each the base64 of 32 bytes, PEM, or a file with PEM.

    Raises ConfigError with every mistake, and where keys are asked for and the package is not installed.
    """
    if not keys:
        return Trust({})
    try:
        from runtime.ed25519 import KeyRefusedError, read_public
    except ModuleNotFoundError as error:
        raise ConfigError(
            "models.trusted_keys: signatures need the package cryptography", hint="pip install 'edgewright[agent]'"
        ) from error
    found, mistakes = {}, []
    for name, text in keys.items():
        try:
            found[name] = read_public(text)
        except KeyRefusedError as error:
            mistakes.append(f"models.trusted_keys.{name}: {error}")
    if mistakes:
        raise ConfigError("; ".join(mistakes), hint="a key is the base64 of its 32 bytes, or a PEM file with it")
    return Trust(found)

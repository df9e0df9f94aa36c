"""Whether somebody we trust has signed a release: Ed25519 over its digest. The one file with `cryptography`."""

import base64
from collections.abc import Mapping
from pathlib import Path

from agent.models.settings import is_key
from runtime.errors import ConfigError
from schemas.release import ReleaseError, parse_signature


class Trust:
    """The keys that count. With none, everything is taken as it is."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """By their names: the 32 bytes of a public key each."""
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
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self._keys[said.key]).verify(said.signature, bytes.fromhex(digest))
        except InvalidSignature:
            return f"its signature is not one of the key {said.key!r} for these bytes"
        return ""


def read_trust(keys: Mapping[str, str]) -> Trust:
    """The `[models] trusted_keys`: each the base64 of 32 bytes, or a file that holds it.

    Raises ConfigError with every mistake, and where keys are asked for and the package is not installed.
    """
    found, mistakes = {}, []
    for name, text in keys.items():
        try:
            found[name] = _key(text)
        except ValueError as error:
            mistakes.append(f"models.trusted_keys.{name}: {error}")
    if mistakes:
        raise ConfigError("; ".join(mistakes), hint="a key is the base64 of its 32 bytes, or a file that holds that")
    if found:
        try:
            import cryptography  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError(
                "models.trusted_keys: signatures need the package cryptography",
                hint="pip install 'edgewright[agent]'",
            ) from error
    return Trust(found)


def _key(text: str) -> bytes:
    if not is_key(text):
        try:
            text = Path(text).read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise ValueError(f"{text[:200]} is neither a key nor a file with one: {error}") from error
    if not is_key(text):
        raise ValueError("it does not hold an Ed25519 key, 32 bytes in base64")
    return base64.b64decode(text)

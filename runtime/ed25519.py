"""Ed25519 keys and signatures. The one file with `cryptography`.

A public key is written as PEM, in a file or as it stands, or as the base64 of its 32 bytes; a private key is a PEM
file (PKCS 8, without a password) that nobody but its owner may read.
"""

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from runtime.errors import PermanentError

KEY_BYTES = 32
PEM_BYTES_MAX = 8 * 1024


class KeyRefusedError(PermanentError):
    """What is no Ed25519 key, or cannot be read."""


class PublicKey:
    """Verifies."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def verifies(self, signature: bytes, data: bytes) -> bool:
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    @property
    def text(self) -> str:
        """The base64 of its bytes."""
        return base64.b64encode(self._key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


class PrivateKey:
    """Signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    @property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key())


def read_public(text: str, folder: Path = Path()) -> PublicKey:
    """A key as a configuration gives it: base64, PEM, or a file (relative to `folder`). Raises KeyRefusedError."""
    try:
        raw = base64.b64decode(text, validate=True)
        if len(raw) == KEY_BYTES:
            return PublicKey(Ed25519PublicKey.from_public_bytes(raw))
    except (binascii.Error, ValueError):
        pass
    pem = text.encode() if text.lstrip().startswith("-----BEGIN") else _read(folder / text, "public key")
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise _no_key("public key", text) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key("public key", text)
    return PublicKey(key)


def read_private(path: Path) -> PrivateKey:
    """Raises KeyRefusedError, also where others may read it."""
    pem = _read(path, "private key")
    if path.stat().st_mode & 0o077:
        raise KeyRefusedError(f"the private key {path} can be read by others", hint=f"chmod 600 {path}")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise _no_key("private key", str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key("private key", str(path))
    return PrivateKey(key)


def make_pair(private: Path, public: Path) -> PrivateKey:
    """A new pair in two new files, the private one 0600. Raises KeyRefusedError, and overwrites nothing."""
    key = Ed25519PrivateKey.generate()
    _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    try:
        _write(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    except KeyRefusedError:
        private.unlink()
        raise
    return PrivateKey(key)


def _write(path: Path, pem: bytes, mode: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise KeyRefusedError(f"there is a file {path} already", hint="a key is not overwritten") from error
    except OSError as error:
        raise KeyRefusedError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(pem)
        file.flush()
        os.fsync(fd)


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(PEM_BYTES_MAX)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = "wanted is a PEM file, or the base64 of its 32 bytes for a public key"
        raise KeyRefusedError(f"cannot read the {what} {str(path)[:200]}: {why}", hint=hint) from error


def _no_key(what: str, text: str) -> KeyRefusedError:
    return KeyRefusedError(f"{text[:200]!r} is no Ed25519 {what}", hint="edgectl model keygen makes a pair")

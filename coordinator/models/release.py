"""Releases at the registry: the shape that nodes know too (schemas/release.py), refused in the registry's words."""

from runtime.errors import PermanentError
from schemas import release as shape
from schemas.release import DOCUMENT_BYTES_MAX as DOCUMENT_BYTES_MAX
from schemas.release import FILE_BYTES_MAX as FILE_BYTES_MAX
from schemas.release import FILES_MAX as FILES_MAX
from schemas.release import Release as Release
from schemas.release import ReleaseError, parse_signature
from schemas.release import ReleaseFile as ReleaseFile
from schemas.release import ReleaseVariant as ReleaseVariant
from schemas.release import Role as Role
from schemas.release import digest_of as digest_of


class ModelRefusedError(PermanentError):
    """A model, a version or a wish about one that cannot be taken."""


def encode_release(release: Release) -> bytes:
    """The document. Raises ModelRefusedError for one that is too large."""
    try:
        return shape.encode_release(release)
    except ReleaseError as error:
        raise ModelRefusedError(str(error), hint="shorten notes and figures in bundle.toml") from error


def decode_release(document: bytes | str) -> Release:
    """What a document says. Raises ModelRefusedError unless it is one, whole and consistent."""
    try:
        return shape.decode_release(document)
    except ReleaseError as error:
        raise ModelRefusedError(str(error)) from error


def check_signature(text: str) -> str:
    """`KEY BASE64`: the name of a key and an Ed25519 signature of the digest's 32 bytes. The form alone is checked.

    Raises ModelRefusedError.
    """
    try:
        return str(parse_signature(text))
    except ReleaseError as error:
        raise ModelRefusedError(str(error), hint="correct or remove bundle.sig") from error

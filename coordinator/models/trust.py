"""Whose signatures count: what is wrong with a release's signature, or with having none."""

from collections.abc import Mapping
from pathlib import Path

from coordinator.models.release import ModelRefusedError
from coordinator.models.settings import ModelsTable
from runtime.ed25519 import KeyRefusedError, PrivateKey, PublicKey, read_public
from schemas.release import Signature, parse_signature


class Trust:
    """The keys of one coordinator. Without any the form of a signature is all that is checked."""

    def __init__(self, table: ModelsTable) -> None:
        """Raises KeyRefusedError for a key that cannot be read."""
        self._keys = read_keys(table.trusted_keys, Path())
        self._require = table.require_signature

    def check(self, reference: str, digest: str, signature: str, *, to_give: bool = False) -> None:
        """Raises ModelRefusedError for a signature that does not hold; where one is needed `to_give` it to nodes,
        for none."""
        if not signature:
            if to_give and self._require:
                hint = "edgectl model sign it, or end [models] require_signature"
                raise ModelRefusedError(f"model {reference} is not signed, and that is required here", hint=hint)
        elif self._keys and (why := mistake(self._keys, digest, signature)):
            raise ModelRefusedError(f"model {reference} {why}", hint="sign it again; see [models] trusted_keys")


def read_keys(keys: Mapping[str, str], folder: Path) -> dict[str, PublicKey]:
    """By name. Raises KeyRefusedError with every mistake."""
    found, mistakes = {}, []
    for name, text in keys.items():
        try:
            found[name] = read_public(text, folder)
        except KeyRefusedError as error:
            mistakes.append(f"{name}: {error}")
    if mistakes:
        raise KeyRefusedError("; ".join(mistakes))
    return found


def mistake(keys: Mapping[str, PublicKey], digest: str, signature: str) -> str:
    """What is wrong with a signature `KEY BASE64`; "" for nothing."""
    parsed = parse_signature(signature)
    key = keys.get(parsed.key)
    if key is None:
        return f"is signed by {parsed.key}, and the keys that are trusted are {', '.join(sorted(keys))}"
    return "" if key.verifies(parsed.signature, bytes.fromhex(digest)) else f"has a wrong signature of {parsed.key}"


def signed(key: PrivateKey, name: str, digest: str) -> str:
    """The signature `KEY BASE64` of a release."""
    return str(Signature(name, key.sign(bytes.fromhex(digest))))

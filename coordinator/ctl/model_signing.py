"""`edgectl model keygen|sign|verify-signature`: who vouches for a release, by Ed25519.

A key's name is that of its file: nodes and coordinators look it up in their `[models] trusted_keys`.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.ctl.arguments import UsageError
from coordinator.ctl.evidence import Opener
from coordinator.models.folder import SIGNATURE, read_folder
from coordinator.models.trust import mistake, read_keys, signed
from coordinator.models.versions import VersionError, parse_reference
from coordinator.store.models import Done
from runtime.ed25519 import PublicKey, make_pair, read_private, read_public
from runtime.errors import PermanentError
from schemas.bundles import MANIFEST, NAME_MEANS, NAME_PATTERN
from schemas.release import ReleaseError, parse_signature

Add = Callable[[str, str, Callable[[argparse.Namespace, Opener], int]], argparse.ArgumentParser]
Say = Callable[[argparse.Namespace, Any, str], int]
Keep = Callable[[argparse.Namespace, Opener, str, str, str, str], Done | dict[str, Any]]
"""Puts a signature (name, version, digest, signature) into the registry."""


def add_commands(add: Add, say: Say, keep: Keep) -> list[argparse.ArgumentParser]:
    """Returns those that may ask a coordinator."""
    keygen = add("keygen", "a new pair of keys to sign models with", lambda parsed, open_: _keygen(parsed, say))
    text = "of the private key, such as release.pem; the public one is beside it as release.pub"
    keygen.add_argument("file", type=Path, metavar="FILE", help=text)
    text = "sign a version of the registry, or a bundle's folder (its bundle.sig), with a private key"
    sign = add("sign", text, lambda parsed, open_: _sign(parsed, open_, say, keep))
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="the private key")
    sign.add_argument("--name", default="", help="of the key (default: its file's)")
    verify = add("verify-signature", "whether a release is signed by a key that is trusted",
                 lambda parsed, open_: _verify(parsed, open_, say))  # fmt: skip
    text = "this public key, in place of [models] trusted_keys"
    verify.add_argument("--key", default="", metavar="FILE", help=text)
    for command in (sign, verify):
        command.add_argument("model", metavar="NAME@VERSION|FOLDER")
    return [sign]


def _keygen(parsed: argparse.Namespace, say: Say) -> int:
    private: Path = parsed.file
    public = private.with_suffix(".pub")
    if public == private:
        raise UsageError(f"{private}: the private key wants another name than its public one, as release.pem")
    name = _name(private)
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"{private}: a key is called as its file is: {NAME_MEANS}")
    key = make_pair(private, public)
    document = {"name": name, "private": str(private), "public": str(public), "public_base64": key.public.text}
    text = (
        f"{private}: the private key of {name}; keep it away from the machines that run models\n"
        f'{public}: its public key; [models] trusted_keys = {{ {name} = "{key.public.text}" }}'
    )
    return say(parsed, document, text)


def _sign(parsed: argparse.Namespace, open_: Opener, say: Say, keep: Keep) -> int:
    key, name = read_private(parsed.key), parsed.name or _name(parsed.key)
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"--name {name}: {NAME_MEANS}")
    folder = Path(parsed.model)
    if _is_folder(folder):
        found = read_folder(folder)
        signature = signed(key, name, found.digest)
        (folder / SIGNATURE).write_text(signature + "\n")
        document = {"digest": found.digest, "signature": signature}
        return say(parsed, document, f"{folder / SIGNATURE}: {found.release.reference} is signed by {name}")
    model, version = _reference(parsed.model)
    digest, _ = _kept(open_, parsed, model, version)
    signature = signed(key, name, digest)
    keep(parsed, open_, model, version, digest, signature)
    document = {"name": model, "version": version, "digest": digest, "signature": signature}
    return say(parsed, document, f"{model}@{version} is signed by {name}")


def _verify(parsed: argparse.Namespace, open_: Opener, say: Say) -> int:
    folder = Path(parsed.model)
    if _is_folder(folder):
        found = read_folder(folder)
        reference, digest, signature = found.release.reference, found.digest, found.signature
    else:
        model, version = _reference(parsed.model)
        reference, (digest, signature) = f"{model}@{version}", _kept(open_, parsed, model, version)
    wrong = f"{reference} is not signed" if not signature else _wrong(parsed, open_, reference, digest, signature)
    document = {"model": reference, "digest": digest, "signature": signature, "problem": wrong}
    say(parsed, document, wrong or f"{reference}: the signature of {signature.split()[0]} is right")
    return 1 if wrong else 0


def _wrong(parsed: argparse.Namespace, open_: Opener, reference: str, digest: str, signature: str) -> str:
    try:
        named = parse_signature(signature).key
    except ReleaseError as error:
        return f"{reference}: {error}"
    keys: dict[str, PublicKey]
    if parsed.key:
        keys = {named: read_public(parsed.key)}
    else:
        config = open_.config(parsed)
        keys = read_keys(config.models.trusted_keys, Path()) if config is not None else {}
        if not keys:
            raise UsageError("which keys are trusted? give --key FILE, or a --config with [models] trusted_keys")
    why = mistake(keys, digest, signature)
    return f"{reference} {why}" if why else ""


def _kept(open_: Opener, parsed: argparse.Namespace, name: str, version: str) -> tuple[str, str]:
    found = next((one for one in open_.reader(parsed).models(name) if one.version == version), None)
    if found is None:
        raise PermanentError(f"there is no model {name}@{version}", hint="edgectl model ls lists them")
    return found.digest, found.signature


def _is_folder(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _reference(text: str) -> tuple[str, str]:
    try:
        name, version = parse_reference(text)
    except VersionError as error:
        raise UsageError(f"{error}, or a folder with a {MANIFEST}") from error
    if not version:
        raise UsageError(f"{text}: which version? NAME@VERSION is wanted, or a folder with a {MANIFEST}")
    return name, version


def _name(private: Path) -> str:
    return private.stem

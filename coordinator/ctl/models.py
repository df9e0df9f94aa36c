"""`edgectl model …`: the model registry.

What is read is read from the store. What is changed goes through the coordinator while one runs on the data folder,
and straight into its store while none does; the folder's lock tells which. The bytes of a model go into the content
store on this machine in both cases, so `add` runs where the coordinator runs, as the user who owns its folder.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coordinator.config import CoordinatorConfig
from coordinator.ctl import calling, model_quantize, model_signing, models_show
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.evidence import Opener
from coordinator.fleet.facts import facts_of_birth
from coordinator.lock import FolderLock, FolderLockedError
from coordinator.models.blobs import Blobs
from coordinator.models.channels import STABLE, ModelState
from coordinator.models.choosing import choose, who_can
from coordinator.models.folder import read_folder, store_files
from coordinator.models.mirror import open_blobs
from coordinator.models.release import ModelRefusedError, Release
from coordinator.models.settings import ModelsTable
from coordinator.models.trust import Trust
from coordinator.models.versions import VersionError, parse_reference
from coordinator.store import models
from coordinator.store.migrations import FILE_NAME
from coordinator.store.models import Done, ModelView
from coordinator.store.reader import NodeView, Reader
from coordinator.store.settings import StoreBackend
from coordinator.store.store import ForeignStoreError
from runtime.database import Job
from runtime.errors import PermanentError
from schemas.messages import Birth, Command
from schemas.shape import fields_of, read
from schemas.topics import COORDINATOR, TopicSpace

HISTORY_SHOWN = 50
Run = Callable[[argparse.Namespace, Opener], int]


def add_commands(parser: argparse.ArgumentParser, open_: Opener) -> None:
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Run) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="JSON instead of text")
        command.set_defaults(run=lambda parsed: run(parsed, open_))
        return command

    def timeout(command: argparse.ArgumentParser, default_s: float) -> None:
        text = f"wait so long for a coordinator that runs (default {default_s:g})"
        command.add_argument("--timeout", type=calling.seconds, default=default_s, metavar="S", help=text)

    adding = add("add", "check the bundle in a folder and add it", _add)
    adding.add_argument("folder", type=Path, metavar="FOLDER")
    adding.add_argument("--channel", default="", help="and promote it there: canary, stable, or a name of yours")
    timeout(adding, 300.0)
    ls = add("ls", "the models, the newest version of each first", _ls)
    ls.add_argument("name", nargs="?", default="", metavar="NAME", help="only its versions")
    ls.add_argument("--channel", default="", help="only what this channel gives out")
    ls.add_argument("--retired", action="store_true", help="retired versions too")
    reference = "NAME[@VERSION]"
    show = add("show", "one version in full; without VERSION the newest that is not retired", _show)
    show.add_argument("model", metavar=reference)
    promote = add("promote", "let a channel give out this version from now on", _promote)
    promote.add_argument("model", metavar="NAME@VERSION")
    promote.add_argument("channel", metavar="CHANNEL")
    timeout(promote, 30.0)
    retire = add("retire", "give this version to nobody any more; for good", _retire)
    retire.add_argument("model", metavar="NAME@VERSION")
    text = "take it out of its channels, which then give out nothing of this model"
    retire.add_argument("--withdraw", action="store_true", help=text)
    timeout(retire, 30.0)
    verify = add("verify", "read every file of every model and check its hash", _verify)
    verify.add_argument(
        "--sweep", action="store_true", help="remove files that no model needs, left by additions cut off"
    )
    for command in model_signing.add_commands(add, _said, _keep_signature):
        timeout(command, 30.0)
    model_quantize.add_command(add, _said)
    why = add("why", "which variant a node gets and why not another; without NODE how many can run it", _why)
    why.add_argument("model", metavar=reference, help="without VERSION what the channel gives out")
    why.add_argument("node", nargs="?", default="", metavar="NODE")
    why.add_argument("--channel", default=STABLE, help=f"default {STABLE}")


# ---- changing ---------------------------------------------------------------------------------------


def _add(parsed: argparse.Namespace, open_: Opener) -> int:
    found = read_folder(parsed.folder)
    config = open_.config(parsed)
    if config is not None:
        Trust(config.models).check(found.release.reference, found.digest, found.signature)
    data_dir = _own_data_dir(parsed, open_)
    blobs = _blobs(parsed, open_, data_dir)
    release, source = found.release, _source()
    asked = {"digest": found.digest, "channel": parsed.channel, "signature": found.signature, "source": source}
    with blobs.adding():
        new = store_files(found, blobs)

        done = _change(
            parsed,
            open_,
            Command("addModel", asked),
            lambda db: models.add(
                db,
                release,
                found.document,
                found.digest,
                channel=parsed.channel,
                signature=found.signature,
                source=source,
                now_ms=_now_ms(),
            ),
        )
    said = f"{release.reference}: added, {len(release.files)} files, {release.bytes} bytes ({new} of them new)"
    if not done["changed"]:
        said = f"{release.reference}: is here already, just so"
    return _said(parsed, done, said + _channel_said(done))


def _promote(parsed: argparse.Namespace, open_: Opener) -> int:
    (name, version), source = _version(parsed.model), _source()
    asked = {"name": name, "version": version, "channel": parsed.channel, "source": source}
    done = _change(
        parsed,
        open_,
        Command("promoteModel", asked),
        lambda db: models.promote(db, name, version, parsed.channel, source=source, now_ms=_now_ms()),
    )
    return _said(parsed, done, f"{name}@{version}" + _channel_said(done))


def _retire(parsed: argparse.Namespace, open_: Opener) -> int:
    (name, version), withdraw, source = _version(parsed.model), parsed.withdraw, _source()
    asked = {"name": name, "version": version, "withdraw": withdraw, "source": source}
    done = _change(
        parsed,
        open_,
        Command("retireModel", asked),
        lambda db: models.retire(db, name, version, withdraw=withdraw, source=source, now_ms=_now_ms()),
    )
    said = "retired" if done["changed"] else "was retired already"
    return _said(parsed, done, f"{name}@{version}: {said}")


def _keep_signature(
    parsed: argparse.Namespace, open_: Opener, name: str, version: str, digest: str, signature: str
) -> dict[str, Any]:
    asked = {"name": name, "version": version, "digest": digest, "signature": signature, "source": _source()}
    return _change(
        parsed,
        open_,
        Command("signModel", asked),
        lambda db: models.sign(db, name, version, digest, signature, source=_source(), now_ms=_now_ms()),
    )


def _change(parsed: argparse.Namespace, open_: Opener, command: Command, job: Job[Done]) -> dict[str, Any]:
    """By the coordinator that runs, here or elsewhere, or else in its store. Raises PermanentError."""
    config = open_.config(parsed)
    if config is not None and config.store.backend is StoreBackend.POSTGRES:
        try:
            with models.direct(config.place) as db:
                return dict(fields_of(job(db)))
        except ForeignStoreError:
            return _asked(parsed, config, command)
    if config is not None and not os.access(config.coordinator.data_dir / FILE_NAME, os.W_OK):
        return _asked(parsed, config, command)  # on another machine, or another user's
    data_dir = _data_dir(parsed, open_)
    try:
        lock = FolderLock(data_dir)
    except FolderLockedError as error:
        if config is None:
            text = "give --config FILE or set EDGECTL_CONFIG, so that it can be asked"
            raise UsageError(f"{error.what}: {text}") from error
        return _asked(parsed, config, command)
    try:
        _check_owner(data_dir)
        with models.direct(data_dir) as db:
            changed: dict[str, Any] = fields_of(job(db))
            return changed
    finally:
        lock.release()


def _asked(parsed: argparse.Namespace, config: CoordinatorConfig, command: Command) -> dict[str, Any]:
    where = config.address(), TopicSpace(config.topic_root)
    result = calling.ask(where, COORDINATOR, command, timeout_s=parsed.timeout)
    if result.error is not None:
        raise PermanentError(f"not changed: {result.error.message}")
    answer: dict[str, Any] = result.result
    return answer


# ---- asking -----------------------------------------------------------------------------------------


def _ls(parsed: argparse.Namespace, open_: Opener) -> int:
    found = open_.reader(parsed).models(parsed.name, parsed.channel)
    kept = [one for one in found if parsed.retired or one.state != ModelState.RETIRED.value]
    return _said(parsed, [asdict(one) for one in kept], models_show.listed(kept, _now_ms()))


def _show(parsed: argparse.Namespace, open_: Opener) -> int:
    reader = open_.reader(parsed)
    name, version = _reference(parsed.model)
    view = _view(reader, name, version)
    release = _release(reader, view)
    measured = reader.model_measured(name, view.version)
    figures = reader.model_figures(name, view.version)
    history = reader.model_history(name, HISTORY_SHOWN)
    children = reader.model_children(name, view.version)
    document = {
        **asdict(view),
        "release": fields_of(release),
        "measured": [asdict(one) for one in measured],
        "figures": [asdict(one) for one in figures],
        "children": children,
        "history": [asdict(step) for step in history],
    }
    signed = _signed(parsed, open_, view)
    document["signed"] = signed
    text = models_show.whole(view, release, signed, measured, figures, children, history)
    return _said(parsed, document, text)


def _signed(parsed: argparse.Namespace, open_: Opener, view: ModelView) -> str:
    """Who signed it, and whether that is so."""
    if not view.signature:
        return "no"
    config = open_.config(parsed)
    if config is None or not config.models.trusted_keys:
        return f"by {view.signature.split()[0]}, not checked: there are no trusted_keys here"
    try:
        Trust(config.models).check(view.reference, view.digest, view.signature)
    except ModelRefusedError as error:
        return f"wrongly: {error}"
    return f"by {view.signature.split()[0]}, verified"


def _why(parsed: argparse.Namespace, open_: Opener) -> int:
    reader = open_.reader(parsed)
    name, version = _reference(parsed.model)
    if not version:
        given = reader.models(name, parsed.channel)
        if not given:
            what = f"channel {parsed.channel} gives out no version of {name}"
            raise PermanentError(what, hint=f"edgectl model ls {name}")
        version = given[0].version
    release = _release(reader, _view(reader, name, version))
    if not parsed.node:
        runs, reasons = who_can(release, (_facts(view) for view in reader.nodes()))
        counts = {"model": release.reference, "runs": dict(runs), "cannot": dict(reasons.most_common())}
        return _said(parsed, counts, models_show.counted(release, runs, reasons))
    view = reader.node(parsed.node)
    if view is None:
        raise PermanentError(f"there is no node {parsed.node}", hint="edgectl nodes lists them")
    choice = choose(release, _facts(view))
    document = {
        "model": release.reference,
        "node": view.node,
        "gets": choice.variant and choice.variant.target.value,
        "why_not": {one.variant.target.value: list(one.why_not) for one in choice.verdicts},
    }
    return _said(parsed, document, models_show.why(release, view.node, choice))


def _verify(parsed: argparse.Namespace, open_: Opener) -> int:
    data_dir = _own_data_dir(parsed, open_) if parsed.sweep else _data_dir(parsed, open_)
    reader, blobs = open_.reader(parsed), _blobs(parsed, open_, data_dir)
    damaged = []
    named = reader.model_files()
    for sha256, (size, reference) in sorted(named.items()):
        if blobs.size(sha256) is None:
            damaged.append(f"{reference}: the file {sha256} is missing")
        elif (size is not None and blobs.size(sha256) != size) or not blobs.is_sound(sha256):
            damaged.append(f"{reference}: the file {sha256} is damaged")
        else:
            blobs.settle(sha256)
    swept = files = 0
    if parsed.sweep:
        with blobs.sweeping():
            swept, _ = blobs.sweep(frozenset(reader.model_files()))
    else:
        files = len(blobs.unnamed(frozenset(named)))
    document = {"files": len(named), "damaged": damaged, "unneeded": files, "swept": swept}
    lines = [*damaged, f"{len(named)} files, {len(damaged)} of them missing or damaged"]
    lines += [f"{swept} files that no model needs removed"] if parsed.sweep else []
    lines += [f"{files} files that no model needs: --sweep removes them"] if files else []
    _said(parsed, document, "\n".join(lines))
    return 1 if damaged else 0


# ---- small things -----------------------------------------------------------------------------------


def _view(reader: Reader, name: str, version: str) -> ModelView:
    """The version, or the newest that is not retired."""
    found = reader.models(name)
    if version:
        found = [one for one in found if one.version == version]
    if not found:
        what = f"{name}@{version}" if version else name
        raise PermanentError(f"there is no model {what}", hint="edgectl model ls lists them")
    return next((one for one in found if one.state != ModelState.RETIRED.value), found[0])


def _release(reader: Reader, view: ModelView) -> Release:
    release = reader.release(view.name, view.version)
    if release is None:
        raise PermanentError(f"there is no model {view.reference}")
    return release


def _facts(view: NodeView) -> dict[str, Any]:
    return {"name": view.node, **facts_of_birth(read(Birth, view.birth, strict=False))}


def _reference(text: str) -> tuple[str, str]:
    try:
        return parse_reference(text)
    except VersionError as error:
        raise UsageError(str(error)) from error


def _version(text: str) -> tuple[str, str]:
    name, version = _reference(text)
    if not version:
        raise UsageError(f"{text}: which version? NAME@VERSION is wanted; edgectl model ls {name} lists them")
    return name, version


def _data_dir(parsed: argparse.Namespace, open_: Opener) -> Path:
    data_dir = open_.places(parsed)[1]
    if data_dir is None:
        raise UsageError("where is the store? give --config FILE or --data-dir DIR, or set EDGECTL_CONFIG")
    config = open_.config(parsed)
    in_folder = config is None or config.store.backend is StoreBackend.SQLITE
    if in_folder and not (data_dir / FILE_NAME).is_file():
        raise PermanentError(
            f"there is no coordinator store at {data_dir / FILE_NAME}",
            hint="name the right --data-dir or --config; the coordinator makes it when it first runs",
        )
    return data_dir


def _own_data_dir(parsed: argparse.Namespace, open_: Opener) -> Path:
    data_dir = _data_dir(parsed, open_)
    _check_owner(data_dir)
    return data_dir


def _blobs(parsed: argparse.Namespace, open_: Opener, data_dir: Path) -> Blobs:
    config = open_.config(parsed)
    return open_blobs(ModelsTable() if config is None else config.models, open_.places(parsed)[0], data_dir)


def _check_owner(data_dir: Path) -> None:
    """A file of another user's would be one that the coordinator cannot read."""
    owner = data_dir.stat().st_uid
    if owner != os.geteuid():
        raise PermanentError(
            f"{data_dir} belongs to user {owner}, and this is user {os.geteuid()}",
            hint="run this as the coordinator's user: sudo -u …",
        )


def _channel_said(done: dict[str, Any]) -> str:
    if not done["channel"]:
        return ""
    before = f", {done['replaced']} before" if done["replaced"] not in ("", done["version"]) else ""
    return f"; channel {done['channel']} gives it out{before}"


def _said(parsed: argparse.Namespace, document: Any, text: str) -> int:
    print(json.dumps(document, indent=2, ensure_ascii=False) if parsed.json else text)  # noqa: T201
    return 0


def _source() -> str:
    return f"edgectl, {os.environ.get('SUDO_USER') or os.environ.get('USER') or 'somebody'}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

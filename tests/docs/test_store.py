"""docs/store.md: its commands are run, its keys exist, its figures are the program's."""

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from coordinator.__main__ import main
from coordinator.lease.duty import Duty
from coordinator.retention import Retention
from coordinator.store.place import open_store
from coordinator.store.settings import StoreTable

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")


def test_the_commands_of_a_backup_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coordinator.toml").write_text('[coordinator]\ndata_dir = "data"\n')
    (tmp_path / "data").mkdir()
    open_store(tmp_path / "data").close()
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "restore" in block]
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [words[:2] for words in commands] == [
        ["edge-coordinator", name] for name in ("backup", "check", "restore")
    ]
    assert [main(words[1:]) for words in commands] == [0, 0, 0]
    assert (tmp_path / "data" / "coordinator.db.before-restore-1").is_file()


def test_the_keys_and_their_defaults_are_the_programs() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    known = {field.name: field.default for field in dataclasses.fields(StoreTable)}
    assert set(tomllib.loads(block)["store"]) <= set(known)
    said = {
        name: float(default)
        for names, default in re.findall(r"^\| (`\w+_.*?`) \| (\d+) \|", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert said == {name: value for name, value in known.items() if re.match(r"(samples|events)_", name)}


def test_the_counters_are_there(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    figures = Retention(store, Duty(store, "retention", "test"), StoreTable().keep).figures()
    store.close()
    assert [name for name in figures if f"`{name}`" not in PAGE] == []

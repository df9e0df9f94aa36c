"""docs/schema-language.md: every block is what it says it is, and the tables have what the code has."""

import json
import re
from pathlib import Path

import pytest

from schemas.language import limits
from schemas.language.annotations import ANNOTATIONS
from schemas.language.build import BUILT_IN, LIST, MAP
from schemas.language.format import LINE_CHARS_MAX, format_file
from schemas.language.load import Loaded, load_text
from schemas.language.parse import parse
from schemas.language.platform import SECTIONS
from schemas.language.problems import SchemaError

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "schema-language.md").read_text(encoding="utf-8")
EDITOR = (DOCS / "editor" / "edge.tmLanguage.json").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def checked(text: str, folder: Path) -> Loaded:
    """`core` stands for any platform here."""
    (folder / "core.edge").write_text("type Node_ID = String", encoding="utf-8")
    return load_text(text, "page", folder=folder)


@pytest.mark.parametrize("text", blocks("edge"))
def test_a_block_has_nothing_wrong_and_is_in_the_layout(text: str, tmp_path: Path) -> None:
    warnings = [one for one in checked(text, tmp_path).warnings if one.message != "nothing of core is used"]
    assert warnings == []
    assert format_file(parse(text)) == text


@pytest.mark.parametrize("text", blocks("edge-error"))
def test_a_block_of_errors_has_errors(text: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError) as caught:
        checked(text, tmp_path)
    assert all("expected" not in one.message for one in caught.value.problems), "errors of the meaning are meant"


@pytest.mark.parametrize("text", blocks("edge-warning"))
def test_a_block_of_warnings_has_warnings(text: str, tmp_path: Path) -> None:
    assert checked(text, tmp_path).warnings


def test_the_page_has_blocks_of_every_kind() -> None:
    assert len(blocks("edge")) >= 3
    assert len(blocks("edge-error")) >= 4
    assert len(blocks("edge-warning")) == 1


def test_the_error_that_is_shown_is_what_is_told() -> None:
    text = 'edge_computing Shop {\n  platform_name: "s"\n\n  functions: [count() left()]\n}'
    with pytest.raises(SchemaError) as caught:
        load_text(text, "shop")
    assert f"```\n{caught.value}\n```" in PAGE


def test_every_annotation_section_and_type_is_on_the_page() -> None:
    for name in ANNOTATIONS:
        assert re.search(rf"`@{name}\b", PAGE), name
    for name in (*SECTIONS, *BUILT_IN):
        assert f"`{name}`" in PAGE, name


def test_every_limit_is_on_the_page() -> None:
    table = PAGE.split("## Limits")[1].split("## Errors")[0]
    told = set(map(int, re.findall(r"\| (\d+) \|", table)))
    known = {value for name, value in vars(limits).items() if name.endswith("_MAX") and name != "SECONDS_MAX"}
    assert told == known
    assert f"at most {limits.SECONDS_MAX // 86_400}d" in PAGE
    assert f"fit in {LINE_CHARS_MAX} characters" in PAGE


def test_the_editor_file_knows_every_word() -> None:
    grammar = json.loads(EDITOR)
    assert grammar["scopeName"] == "source.edge"
    assert grammar["fileTypes"] == ["edge"]
    included = {one["include"].removeprefix("#") for one in grammar["patterns"]}
    assert included == grammar["repository"].keys()

    def words(part: str) -> set[str]:
        return set(re.findall(r"\w+", grammar["repository"][part]["match"]))

    assert {"import", "record", "enum", "type", "edge_computing"} <= words("declarations")
    assert {*SECTIONS} <= words("sections")
    assert {*ANNOTATIONS} <= words("annotations")
    assert {*BUILT_IN, MAP, LIST} <= words("types")
    assert {"true", "false", "null"} <= words("constants")


def test_every_pattern_of_the_editor_file_compiles() -> None:
    def patterns(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [item for key, item in value.items() if key in ("match", "begin", "end")]
            return own + [found for item in value.values() for found in patterns(item)]
        return [found for item in value for found in patterns(item)] if isinstance(value, list) else []

    found = patterns(json.loads(EDITOR))
    assert len(found) > 8
    for pattern in found:
        re.compile(pattern)

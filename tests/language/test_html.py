"""The reference page: well-formed, closed in itself, its links lead somewhere, its lines can be run as they are."""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from coordinator.ctl.arguments import call_arguments
from schemas.language.html import html_page
from schemas.language.html_parts import paragraphs, table
from schemas.language.json_schema import definitions, fields_schema
from schemas.language.load import Loaded, load_text
from schemas.topics import Kind, TopicSpace
from tests.language.samples import every_sample, harbour

VOID = {"meta", "link", "input"}


@dataclass
class Page(HTMLParser):
    """What stands in a page."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)  # of each element: its tag, name, value
    texts: dict[str, list[str]] = field(default_factory=dict)  # by tag, of the elements without others in them
    wrong: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._text = ""
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.wrong.append(f"</{tag}> in {self._open}, line {self.getpos()[0]}")
        else:
            self._open.pop()
        self.texts.setdefault(tag, []).append(self._text)

    def handle_data(self, data: str) -> None:
        self._text += data

    def finish(self) -> None:
        self.close()
        self.wrong += [f"<{tag}> stays open" for tag in self._open]


def read(source: str) -> Page:
    found = Page()
    found.feed(source)
    found.finish()
    return found


@pytest.mark.parametrize("sample", every_sample())
def test_the_page_is_well_formed_and_its_links_lead_somewhere(sample: Callable[[], Loaded]) -> None:
    page = read(html_page(sample().schema))
    assert page.wrong == []
    assert len(page.ids) == len(set(page.ids))
    targets = {f"#{one}" for one in page.ids}
    assert [link for link in page.links if link not in targets and link != "data:,"] == []


@pytest.mark.parametrize("sample", every_sample())
def test_nothing_is_loaded_and_no_other_script_runs(sample: Callable[[], Loaded]) -> None:
    source = html_page(sample().schema)
    page = read(source)
    for tag, name, value in page.attributes:
        assert name not in ("src", "srcset", "style", "action", "data", "poster") and not name.startswith("on")
        assert "://" not in value or tag == "td"
    (style,), (script,) = page.texts["style"], page.texts["script"]
    assert "url(" not in style and "@import" not in style
    (policy,) = (value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value)
    for content in (style, script):
        assert f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}" in policy
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")


def test_what_a_schema_says_stays_text() -> None:
    page = read(html_page(harbour().schema))
    assert 'A place on the way of a ship. <script>alert("no")</script>' in page.texts["p"]
    assert '智联港口 "Edge" <i>platform</i>' in page.texts["h1"] and "i" not in page.texts
    hostile = load_text(
        '/// </style><script>x</script> `</code>` <img src=x onerror="y">\n'
        "enum A { a = \"<b onclick='z'>\" }\n"
        'type U = Float @unit("\\"><script>")\n'
        'record R { a: A = a u: U s: String = "</pre><script>" }\n'
        'edge_computing P { platform_name: "</title><script>" functions: [ f(r: R, q: String = "\'\\""): R @edge ] }',
        "hostile",
    ).schema
    page = read(html_page(hostile))
    assert page.wrong == [] and len(page.texts["script"]) == 1
    assert not any(tag == "img" or name.startswith("on") for tag, name, _ in page.attributes)
    assert any("<b onclick='z'>" in text for text in page.texts["code"])
    assert "</title><script>" in page.texts["title"]


@pytest.mark.parametrize("sample", every_sample())
def test_the_lines_of_a_function_call_it_as_its_schema_wants(sample: Callable[[], Loaded]) -> None:
    schema = sample().schema
    called = set()
    lines = [text for text in read(html_page(schema)).texts["pre"] if re.match("mosquitto|edgectl", text)]
    published: dict[str, Any] = {}
    for text in lines:
        match shlex.split(text):
            case ["mosquitto_pub", "-V", "5", "-q", "1", "-t", topic, "-m", payload]:
                found = TopicSpace().parse(topic)
                assert found.kind is Kind.CMD
                fields = fields_schema(schema, schema.functions[found.leaf].parameters, closed=True)
                document = {**fields, "$defs": definitions(schema, schema.types)}
                published[found.leaf] = json.loads(payload)
                jsonschema.Draft202012Validator(document).validate(published[found.leaf])
            case ["edgectl", "call", node, function, *arguments]:
                called.add(function)
                assert call_arguments(arguments, None) == published[function]
                assert (node == "coordinator") == (schema.functions[function].placement == "cloud")
            case ["edgectl", "state", "get", path]:
                assert path.split(".")[:2][0] == schema.name and path.split(".")[1] in schema.state
            case ["mosquitto_sub", "-V", "5", "-v", *topics]:
                filled = [one.replace("+", "gw-1") for one in topics if one != "-t"]
                assert all(TopicSpace().parse(one).leaf in schema.events for one in filled)
            case other:
                pytest.fail(f"not known: {other}")
    assert called == set(schema.functions)


def test_every_declared_thing_is_there_once() -> None:
    schema = harbour().schema
    ids = set(read(html_page(schema)).ids)
    wanted = {f"function-{name}" for name in schema.functions} | {f"event-{name}" for name in schema.events}
    wanted |= {f"state-{name}" for name in schema.state} | {f"type-{name}" for name in schema.types}
    assert wanted <= ids


def test_what_stays_at_the_node_has_no_line_to_get_it() -> None:
    page = read(html_page(harbour().schema))
    assert {"event-FaceSeen", "state-faces"} <= set(page.ids)
    assert page.texts["p"].count("It stays at the node.") == 2
    assert not any("FaceSeen" in line or "faces" in line for line in page.texts["pre"])


def test_types_that_nobody_uses_are_left_to_the_platform_that_declares_them(tmp_path: Any) -> None:
    (tmp_path / "base.edge").write_text("record Used { x: Integer } record Unused { x: Integer } type Deep = Used")
    schema = load_text(
        'import base\nedge_computing P { platform_name: "p" events: [ E(d: Deep[]) @source(node) ] }',
        "p",
        folder=tmp_path,
    ).schema
    page = read(html_page(schema))
    assert {one for one in page.ids if one.startswith("type-")} == {"type-Used", "type-Deep"}
    assert "from base" in page.texts["span"]


def test_paragraphs_code_and_tables() -> None:
    assert paragraphs("a  `b<c`\n\nd\n") == "<p>a <code>b&lt;c</code></p><p>d</p>"
    assert table(("A", "B", "C"), []) == ""
    assert re.findall("<th>(.)</th>", table(("A", "B", "C"), [("1", "", "2"), ("3", "", "")])) == ["A", "C"]

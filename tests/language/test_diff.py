"""Which changes break whom: a table of two versions of one thing, and what is said of them."""

import pytest

from benchmarks.fuzzlib.texts import SAMPLE
from schemas.language.diff import Change, diff, is_compatible
from schemas.language.load import load_text
from schemas.language.schema import Schema

BEGIN = 'edge_computing P { platform_name: "p" workloads: [W] '


def schema(text: str) -> Schema:
    return load_text(text, "p").schema


def function(text: str, types: str = "record R { a: String }") -> str:
    return f"{types} {BEGIN} functions: [{text}] }}"


def event(text: str, types: str = "record R { a: String }") -> str:
    return f"{types} {BEGIN} events: [{text}] }}"


def state(text: str, types: str = "record R { a: String }") -> str:
    return f"{types} {BEGIN} state: {{ {text} }} }}"


def said(old: str, new: str) -> list[str]:
    return [str(one) for one in diff(schema(old), schema(new))]


E = "enum E { a, b }"
E_MORE = "enum E { a, b, c }"
REFUSED = "what old callers send can be refused"
CALLERS = "old callers can get what they do not know"
READERS = "old readers can get what they do not know"
KEPT = "values that are kept can be refused"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # Who calls writes the parameters: the new function must take what old callers send.
        ("f(a: String)", "f(a: String, b: String)", f"breaking: call of f: b: is new and required; {REFUSED}"),
        ("f(a: String)", "f(a: String, b: String?)", "compatible: call of f: b: is new and may be left out"),
        ("f(a: String)", 'f(a: String, b: String = "")', "compatible: call of f: b: is new and may be left out"),
        ("f(a: R?)", "f()", "breaking: call of f: a: is gone; callers that still give it are refused"),
        ("f(a: Float)", "f(b: Float)", "breaking: call of f: a: is gone; was it renamed to b?; callers that still"),
        ("f(a: Float = 1)", "f(a: Float)", f"breaking: call of f: a: is required now; {REFUSED}"),
        ("f(a: Float)", "f(a: Float = 1)", "compatible: call of f: a: may be left out now"),
        ("f(a: Float = 1)", "f(a: Float = 2)", "compatible: call of f: a: left out it means 2 now, not 1"),
        (
            "f(a: Float @range(0..9))",
            "f(a: Float @range(0..5))",
            f"breaking: call of f: a: 0..5 now, not 0..9; {REFUSED}",
        ),
        ("f(a: Float @range(0..5))", "f(a: Float @range(0..9))", "compatible: call of f: a: 0..9 now, not 0..5"),
        (
            "f(a: Float @range(0..5))",
            "f(a: Float @range(1..9))",
            f"breaking: call of f: a: 1..9 now, not 0..5; {REFUSED}",
        ),
        ("f(a: Integer)", "f(a: Float)", "compatible: call of f: a: Integer before, Float now"),
        ("f(a: Float)", "f(a: Integer)", f"breaking: call of f: a: Float before, Integer now; {REFUSED}"),
        ("f(a: String)", "f(a: Json)", "compatible: call of f: a: String before, Json now"),
        ("f(a: String)", "f(a: Float)", f"breaking: call of f: a: String before, Float now; {REFUSED}"),
        (
            'f(a: Float @unit("m"))',
            'f(a: Float @unit("km"))',
            f"breaking: call of f: a: in km now, not in m; {REFUSED}",
        ),
        ('f(a: String @pattern("a"))', "f(a: String)", "compatible: call of f: a: need not match a any more"),
        ("f(a: String)", 'f(a: String @pattern("a"))', f"breaking: call of f: a: must match a now; {REFUSED}"),
        (
            "f(a: String[])",
            "f(a: String[] @length(1..))",
            f"breaking: call of f: a: 1.. now, not any items; {REFUSED}",
        ),
        # Who answers writes the result: old callers must read what the new function says.
        ("f(): Float @timeout(5s)", "f(): Float @timeout(9s)", "compatible: function f: may take 9 s now, not 5 s"),
        ("f(): Float", "f(): Integer", "compatible: result of f: Float before, Integer now"),
        ("f(): Integer", "f(): Float", f"breaking: result of f: Integer before, Float now; {CALLERS}"),
        ("f(): R", "f(): R?", f"breaking: result of f: can be null now; {CALLERS}"),
        ("f(): R?", "f(): R", "compatible: result of f: cannot be null any more"),
        ("f(): R", "f()", "breaking: result of f: is gone; callers wait for it"),
        ("f()", "f(): R", "compatible: result of f: is new"),
        # Who hosts it.
        ("f() @any", "f() @cloud", "breaking: function f: is @cloud now, not @any; nodes cannot be called any more"),
        (
            "f() @any",
            "f() @edge",
            "breaking: function f: is @edge now, not @any; the coordinator cannot be called any",
        ),
        ("f() @edge", "f() @any", "compatible: function f: is @any now, not @edge"),
        (
            "f() @edge",
            "f() @cloud",
            "breaking: function f: is @cloud now, not @edge; nodes cannot be called any more",
        ),
        ("f()", "", "breaking: function f: is gone; its callers are refused"),
        ("f(a: R)", "g(a: R)", "breaking: function f: is gone (was it renamed to g?); its callers are refused"),
        ("", "f()", "compatible: function f: is new"),
        (
            "f(): R @edge",
            "f(): R @edge @personal",
            "breaking: result of f: is personal now: it does not leave the node",
        ),
        ("f()", 'f() @deprecated("use g")', "compatible: function f: is deprecated: use g"),
        ("f() @parallel(2)", "f() @parallel(1)", "compatible: function f: 1 calls at a time now, not 2"),
    ],
)
def test_functions(old: str, new: str, expected: str) -> None:
    found = said(function(old), function(new))
    assert found[0].startswith(expected)
    assert len(found) == 1 or found[1:] == ["compatible: function g: is new"] or "b: is new" in found[1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            E,
            E_MORE,
            [f"breaking: result of f: has a new value c; {CALLERS}", "compatible: call of f: e: has a new value c"],
        ),
        (
            E_MORE,
            E,
            [
                f"breaking: call of f: e: has no value c any more; {REFUSED}",
                "compatible: result of f: has no value c any more",
            ],
        ),
        (
            E,
            'enum E { a, b = "B" }',
            [
                f"breaking: call of f: e: has no value b any more; {REFUSED}",
                f"breaking: result of f: has a new value B; {CALLERS}",
                "compatible: call of f: e: has a new value B",
                "compatible: result of f: has no value b any more",
            ],
        ),
        (E, 'enum E { a, x = "b" }', []),
        (
            "enum E { a }",
            "type E = String",
            [
                f"breaking: result of f: E before, String now; {CALLERS}",
                "compatible: call of f: e: E before, String now",
            ],
        ),
        ("type E = Float", "/// told\ntype E = Float\nrecord D {}", []),
        (
            "type E = Float",
            "type E",
            [
                f"breaking: result of f: Float before, E now; {CALLERS}",
                "compatible: call of f: e: Float before, E now",
            ],
        ),
    ],
)
def test_one_type_is_read_by_some_and_written_by_others(old: str, new: str, expected: list[str]) -> None:
    assert said(function("f(e: E): E", old), function("f(e: E): E", new)) == expected


R = "record R {{ {} }}"


@pytest.mark.parametrize(
    ("old", "new", "path", "is_breaking"),
    [
        ("a: String", "a: String, b: String", "r.b: is new and required", False),
        ("a: String, b: String", "a: String", "r.b: is gone", True),
        ("a: String, b: String?", "a: String", "r.b: is gone", False),
        ("a: String, b: String", "a: String, c: String", "r.b: is gone; was it renamed to c?", True),
        ("a: String", "a: String?", "r.a: may be left out now", True),
        ('a: String = "x"', "a: String", "r.a: is required now", False),
        ("a: String", 'a: String = "x"', "r.a: may be left out now", True),
        ("a: Float @range(0..1)", "a: Float @range(0..2)", "r.a: 0..2 now, not 0..1", True),
        ("a: Float @range(0..2)", "a: Float @range(0..1)", "r.a: 0..1 now, not 0..2", False),
        ("a: R[] = []", "a: R[]", "r.a: is required now", False),
        ("a: Map[String, Float]", "a: Map[String, Integer]", "r.a{}: Float before, Integer now", False),
        ("a: Map[String, Integer]", "a: Map[String, Float]", "r.a{}: Integer before, Float now", True),
        ("a: String", "a: String @personal", "r.a: is personal now", True),
        ("a: String @personal", "a: String", "r.a: is not personal any more", False),
    ],
)
def test_records_in_an_event(old: str, new: str, path: str, is_breaking: bool) -> None:
    """Old readers must know all that the new one says."""
    changes = diff(
        schema(event("Told(r: R) @source(W)", R.format(old))), schema(event("Told(r: R) @source(W)", R.format(new)))
    )
    assert f"{changes[0].path}: {changes[0].reason}".startswith(path)
    assert changes[0].is_breaking is is_breaking
    assert all(one.message == "event Told" for one in changes)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("A() @source(W)", "", "breaking: event A: is gone; its readers wait for it"),
        (
            "A(a: R) @source(W)",
            "B(a: R) @source(W)",
            "breaking: event A: is gone (was it renamed to B?); its readers",
        ),
        ("", "A() @source(W)", "compatible: event A: is new"),
        ("A() @source(W)", "A() @source(W) @qos(0)", "breaking: event A: has QoS 0 now, not 1; it can be lost"),
        ("A() @source(W) @qos(0)", "A() @source(W)", "compatible: event A: has QoS 1 now, not 0"),
        (
            "A() @source(W)",
            "A() @source(coordinator)",
            "breaking: event A: nodes tell it no more: its topic is another",
        ),
        (
            "A() @source(W)",
            "A() @source(W, coordinator)",
            "compatible: event A: is told by W, coordinator now, not by W",
        ),
        ("A() @source(W) @keep(9d)", "A() @source(W)", "compatible: event A: is kept for ever now, not for 777600 s"),
        (
            "A() @source(W)",
            "A() @source(W) @personal",
            "breaking: event A: is personal now: it does not leave the node",
        ),
    ],
)
def test_events(old: str, new: str, expected: str) -> None:
    assert said(event(old), event(new))[0].startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("m: Map[String, R]", "", "breaking: state m: is gone; what is kept in it is not found any more"),
        ("m: Map[String, R]", "n: Map[String, R]", "breaking: state m: is gone (was it renamed to n?)"),
        ("", "m: Map[String, R]", "compatible: state m: is new"),
        ("m: Map[String, Float]", "m: Map[String, Integer]", f"breaking: state m: Float before, Integer now; {KEPT}"),
        (
            "m: Map[String, Integer]",
            "m: Map[String, Float]",
            f"breaking: state m: Integer before, Float now; {READERS}",
        ),
        (
            "m: Map[String, Float]",
            "m: Map[Integer, Float]",
            f"breaking: state m: {{key}}: String before, Integer now; {KEPT}; {READERS}",
        ),
        (
            "m: Map[String, R]",
            "m: Map[String, R] @owner(coordinator)",
            "breaking: state m: is written by the coordinator now, not by nodes; others' writes are refused",
        ),
        (
            "m: Map[String, R]",
            "m: Map[String, R] @owner(shared)",
            "compatible: state m: is written by both now, not by nodes",
        ),
        (
            "m: Map[String, R] @owner(shared)",
            "m: Map[String, R] @owner(shared) @merge(edge_wins)",
            "breaking: state m: merges by edge_wins now, not by last_writer",
        ),
        ("m: Map[String, R]", "m: Map[String, R] @personal", "breaking: state m: is personal now"),
    ],
)
def test_state(old: str, new: str, expected: str) -> None:
    assert said(state(old), state(new))[0].startswith(expected)


def test_lists_of_names() -> None:
    old = 'edge_computing P { platform_name: "p" edge_node_types: [A, B] }'
    new = 'edge_computing Q @version("2") { platform_name: "q" edge_node_types: [B] workloads: [C] }'
    assert said(old, new) == [
        "breaking: edge_node_types: A: is gone; what names it is refused",
        "compatible: platform: is named Q now, not P",
        "compatible: platform: has version 2 now, not none",
        "compatible: workloads: C: is new",
    ]


def test_the_same_is_no_change() -> None:
    text = SAMPLE.replace("import core\n", "").replace('import "types.edge"\n', "")
    commented = text.replace("/// Counts.", "/// Counts otherwise.").replace("record Nothing {}", "record Other {}")
    assert said(text, text) == []
    assert said(text, commented) == [], "neither documentation nor what no message holds"


def test_a_change_is_told_for_every_message_that_holds_it_and_once_in_each() -> None:
    text = (
        f"record R {{ r: R?, rs: R[], x: Float }} {BEGIN} functions: [f(a: R): R[]] state: {{ s: Map[String, R] }} }}"
    )
    changes = diff(schema(text), schema(text.replace("x: Float", 'x: Float @unit("m")')))
    assert [(one.message, one.path) for one in changes] == [
        ("call of f", "a.x"),
        ("result of f", "[].x"),
        ("state s", "x"),
    ]
    assert not is_compatible(changes)


def test_thousands_of_records_are_walked_without_a_deep_stack() -> None:
    chain = "".join(f"record R{i} {{ a: R{i + 1}? }}\n" for i in range(3000))
    text = f"{chain} record R3000 {{ a: String }} {BEGIN} functions: [f(a: R0)] }}"
    (change,) = diff(schema(text), schema(text.replace("String", "Float")))
    assert change.is_breaking
    assert len(change.path) < 300


def test_a_change_is_shown_in_one_line() -> None:
    assert str(Change("event A", "x", "is gone", True)) == "breaking: event A: x: is gone"

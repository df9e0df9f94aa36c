"""Every error of the syntax and of the checker: the place, the text that is underlined, the message and the hint."""

from pathlib import Path

import pytest

from schemas.language.annotations import ANNOTATIONS
from schemas.language.load import load_text
from schemas.language.parse import parse
from schemas.language.problems import Problem, SchemaError

Told = tuple[int, int, str, str, str, str]
"""Line, column, underlined, severity, message, hint."""

SYNTAX: dict[str, tuple[str, list[Told]]] = {
    "missing_colon": (
        "record A { a String }",
        [
            (1, 14, "String", "error", "expected :, not 'String'", "write : before 'String'"),
        ],
    ),
    "missing_type": (
        "record A {\n  a:\n  b: String\n}",
        [
            (2, 5, "", "error", "expected a type at the end of this line", ""),
        ],
    ),
    "missing_comma_between_functions": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [\n    foo(a: String) bar(b: Float)\n  ]\n}',
        [
            (4, 20, "bar", "error", "expected , or ], not 'bar'", "write , before 'bar'"),
        ],
    ),
    "missing_comma_between_parameters": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [foo(a: String b: Float)]\n}',
        [
            (3, 29, "b", "error", "expected , or ), not 'b'", "write , before 'b'"),
        ],
    ),
    "missing_bracket_of_a_signature": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [foo(a: String: Float]\n}',
        [
            (3, 28, ":", "error", "expected , or ), not ':'", "write ) before ':'"),
        ],
    ),
    "missing_brace_before_the_next_declaration": (
        "record A {\n  a: String\nrecord B {\n  b: Float\n}",
        [
            (3, 1, "record", "error", "the { in line 1 is not closed before 'record'", "write } where it ends"),
        ],
    ),
    "missing_brackets_at_the_end": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [\n    foo(a: String',
        [
            (4, 18, "", "error", "the ( in line 4 is not closed before the end of the file", "write ) where it ends"),
        ],
    ),
    "one_brace_too_many": (
        "record A { a: String } }\nrecord B {}",
        [
            (
                1,
                24,
                "}",
                "error",
                "expected a declaration (import, record, enum, type, edge_computing), not '}'",
                "leave '}' out",
            ),
        ],
    ),
    "a_bracket_of_another_kind": (
        "record A { a: String ) }",
        [
            (1, 22, ")", "error", "expected a field or }, not ')'", "leave ')' out"),
        ],
    ),
    "no_declaration": (
        "hello world\nrecord A {}",
        [
            (
                1,
                1,
                "hello",
                "error",
                "expected a declaration (import, record, enum, type, edge_computing), not 'hello'",
                "",
            ),
        ],
    ),
    "a_text_as_a_field": (
        'record A { "x" }',
        [
            (1, 12, '"x"', "error", "expected a field or }, not '\"x\"'", "leave '\"x\"' out"),
        ],
    ),
    "a_name_is_missing": (
        "record { a: String }",
        [
            (1, 8, "{", "error", "expected a name, not '{'", ""),
        ],
    ),
    "an_annotation_without_a_name": (
        "record A { a: String @ }",
        [
            (1, 24, "}", "error", "expected a name, not '}'", ""),
        ],
    ),
    "an_empty_argument": (
        "record A { a: String @length(,) }",
        [
            (1, 30, ",", "error", "expected a value or ), not ','", ""),
        ],
    ),
    "an_enum_with_types": (
        "enum A { a: String }",
        [
            (1, 11, ":", "error", "expected a name or }, not ':'", "leave ':' out"),
        ],
    ),
    "an_enum_value_that_is_no_text": (
        "enum A { a = b }",
        [
            (1, 14, "b", "error", "expected a text in quotes, not 'b'", ""),
        ],
    ),
    "an_import_of_nothing": (
        "import\nrecord A {}",
        [
            (1, 7, "", "error", "expected a name or a text in quotes at the end of this line", ""),
        ],
    ),
    "a_section_without_a_colon": (
        'edge_computing P {\n  platform_name "p"\n}',
        [
            (2, 17, '"p"', "error", "expected :, not '\"p\"'", "write : before '\"p\"'"),
        ],
    ),
    "two_independent_errors": (
        "record A { a String }\n\nrecord B {}\n\nrecord C { c: }",
        [
            (1, 14, "String", "error", "expected :, not 'String'", "write : before 'String'"),
            (5, 15, "}", "error", "expected a type, not '}'", ""),
        ],
    ),
    "angle_brackets": (
        "record A { a: List<String> }",
        [
            (
                1,
                19,
                "<",
                "error",
                "'<' cannot stand here",
                "the types in a type stand in square brackets: List[String]",
            ),
            (
                1,
                26,
                ">",
                "error",
                "'>' cannot stand here",
                "the types in a type stand in square brackets: List[String]",
            ),
        ],
    ),
    "single_quotes": (
        "edge_computing P { platform_name: 'p' }",
        [
            (1, 35, "'p'", "error", "''p'' is no text", 'texts stand in double quotes: "…"'),
        ],
    ),
    "a_hash": (
        "record A {} # what",
        [
            (1, 13, "# what", "error", "# begins nothing", "comments begin with //, documentation with ///"),
        ],
    ),
    "a_semicolon": (
        "record A { a: String; b: String }",
        [
            (1, 21, ";", "error", "';' cannot stand here", "fields follow each other with a comma, or with nothing"),
        ],
    ),
    "an_arrow": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [foo() -> String]\n}',
        [
            (3, 21, "->", "error", "'->' cannot stand here", "the type of a result stands after a colon"),
        ],
    ),
    "fullwidth_punctuation": (
        "record A { a： String }",
        [
            (1, 13, "：", "error", "'：' cannot stand here", "write :"),
        ],
    ),
    "a_name_in_other_letters": (
        "record 路口 { a: String }",
        [
            (1, 8, "路口", "error", "'路口' is no name", "names have the letters a to z and A to Z, digits and _"),
        ],
    ),
    "an_open_text": (
        'edge_computing P {\n  platform_name: "p\n}',
        [
            (2, 18, '"p', "error", "a text that does not end on its line", 'close it with "'),
        ],
    ),
    "an_open_comment": (
        "record A {}\n/* and so on",
        [
            (2, 1, "/* and so on", "error", "a comment that does not end", "close it with */"),
        ],
    ),
    "an_odd_number": (
        "record A { a: Float = 1.5x }",
        [
            (
                1,
                23,
                "1.5x",
                "error",
                "'1.5x' is neither a number nor a length of time",
                "lengths end with ms, s, m, h or d",
            ),
        ],
    ),
    "a_bad_escape": (
        'edge_computing P { platform_name: "a\\q" }',
        [
            (1, 35, '"a\\q"', "error", "'\"a\\q\"' is no text as JSON writes it", "escape \\ as \\\\"),
        ],
    ),
    "an_optional_twice": (
        "record A { a: String?? }",
        [
            (1, 15, "String", "error", "'String' is marked with ? twice", "leave one out"),
        ],
    ),
    "an_empty_text_on_the_wire": (
        'enum A { a = "" }',
        [
            (1, 14, '""', "error", "a value of an enum cannot be an empty text", "write what stands on the wire"),
        ],
    ),
    "a_number_too_large": (
        "record A { a: Float = 1e999 }",
        [
            (1, 23, "1e999", "error", "'1e999' is too large a number", "the largest is about 1.8e308"),
        ],
    ),
    "a_length_of_time_too_long": (
        "record A { a: Duration = 99999d }",
        [
            (1, 26, "99999d", "error", "'99999d' is too long", "the longest is 36600d"),
        ],
    ),
    "a_name_too_long": (
        "record AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA {}",
        [
            (
                1,
                8,
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "error",
                "a name of 65 characters; at most 64 are allowed",
                "shorten it",
            ),
        ],
    ),
}
CHECKED: dict[str, tuple[str, list[Told]]] = {
    "unknown_type": (
        "record A { a: Foo }\nrecord Fob {}",
        [
            (1, 15, "Foo", "error", "there is no type Foo", "did you mean Fob?"),
        ],
    ),
    "unknown_type_far_from_any": (
        "record A { a: Zzzzzzzz }",
        [
            (
                1,
                15,
                "Zzzzzzzz",
                "error",
                "there is no type Zzzzzzzz",
                "declare it (record, enum or type Zzzzzzzz), or import its file",
            ),
        ],
    ),
    "duplicate_type": (
        "record A {}\nenum A { a }",
        [
            (2, 6, "A", "error", "A is declared twice", "it is declared in line 1 already"),
        ],
    ),
    "built_in_name": (
        "record String {}",
        [
            (1, 8, "String", "error", "String is a built-in type", "choose another name"),
        ],
    ),
    "duplicate_field": (
        "record A {\n  a: String\n  a: Float\n}",
        [
            (3, 3, "a", "error", "a is there twice", "it is in line 2 already"),
        ],
    ),
    "duplicate_enum_value": (
        "enum A { a, b, a }",
        [
            (1, 16, "a", "error", "A has a twice", "leave one out"),
        ],
    ),
    "enum_values_alike_on_the_wire": (
        'enum A { a, b = "a" }',
        [
            (1, 13, "b", "error", "b and a are both 'a' on the wire", "give each a text of its own"),
        ],
    ),
    "enum_without_values": (
        "enum A {}",
        [
            (1, 6, "A", "error", "A has no values", "name at least one"),
        ],
    ),
    "names_that_differ_in_capitals": (
        "record Zone {}\nrecord zone {}",
        [
            (2, 8, "zone", "warning", "zone differs from the type Zone only in capitals", "choose another name"),
        ],
    ),
    "fields_that_differ_in_capitals": (
        "record A { a: String, A: String }",
        [
            (1, 23, "A", "warning", "A differs from the field a only in capitals", "choose another name"),
        ],
    ),
    "a_record_that_contains_itself": (
        "record A { b: B }\nrecord B { a: A[] @length(1..) }",
        [
            (
                1,
                8,
                "A",
                "error",
                "A contains itself without an end: A → B → A",
                "make one field optional (?) or a list",
            ),
        ],
    ),
    "a_name_for_itself": (
        "type A = B\ntype B = A",
        [
            (
                1,
                6,
                "A",
                "error",
                "A is another name for itself: A → B → A",
                "say what it is: a built-in type, a record or an enum",
            ),
        ],
    ),
    "generics_without_types": (
        "record A { a: Map, b: List[String, String], c: String[Float] }",
        [
            (1, 15, "Map", "error", "Map with 0 types in brackets, not 2", "write Map[Key, Value]"),
            (1, 23, "List", "error", "List with 2 types in brackets, not 1", "write List[Item]"),
            (1, 48, "String", "error", "String with 1 types in brackets, not 0", "write String"),
        ],
    ),
    "a_key_that_is_none": (
        "record A { a: Map[A, String], b: Map[Float, String] }",
        [
            (
                1,
                19,
                "A",
                "error",
                "'A' cannot be a key",
                "a key is a String, an Integer, an enum, or another name for one",
            ),
            (
                1,
                38,
                "Float",
                "error",
                "'Float' cannot be a key",
                "a key is a String, an Integer, an enum, or another name for one",
            ),
        ],
    ),
    "unknown_annotation": (
        "record A { a: String @lenght(1..2) }",
        [
            (1, 23, "lenght", "error", "there is no annotation @lenght", "did you mean @length?"),
        ],
    ),
    "annotation_in_a_wrong_place": (
        "record A { a: String @edge }\nenum B @personal { b }",
        [
            (1, 23, "edge", "error", "@edge cannot mark a field", "it marks a function"),
            (
                2,
                9,
                "personal",
                "error",
                "@personal cannot mark an enum",
                "it marks a field, a parameter, a type, a record, a function, an event, a collection of the state",
            ),
        ],
    ),
    "annotation_twice": (
        "record A { a: String @length(1..) @length(..5) }",
        [
            (1, 36, "length", "error", "@length is given twice", "leave one out"),
        ],
    ),
    "annotation_with_wrong_arguments": (
        (
            "record A { a: Float @range(5..1), b: String @length(-1..), c: String "
            '@pattern("("), d: String @pattern("(?i)x"), e: Float @unit(m) }'
        ),
        [
            (
                1,
                22,
                "range",
                "error",
                "@range has the wrong arguments",
                "it takes one range such as 0..100, 0.. or ..100, the smaller number first",
            ),
            (
                1,
                46,
                "length",
                "error",
                "@length has the wrong arguments",
                "it takes one range of whole numbers from 0, such as 1..63",
            ),
            (
                1,
                71,
                "pattern",
                "error",
                "@pattern has the wrong arguments",
                "it takes a regular expression (missing ), unterminated subpattern at position 0)",
            ),
            (
                1,
                96,
                "pattern",
                "error",
                "@pattern has the wrong arguments",
                "it takes a regular expression that JSON Schema has too; it does not have (?i",
            ),
            (
                1,
                124,
                "unit",
                "error",
                "@unit has the wrong arguments",
                "it takes one text of 1 to 200 characters in quotes",
            ),
        ],
    ),
    "limits_that_do_not_fit": (
        'record A { a: String @range(1..2), b: Float @length(1..2), c: Float @pattern("x"), d: Boolean @unit("m") }',
        [
            (1, 23, "range", "error", "@range does not fit this type", "numbers, Duration and Timestamp have one"),
            (1, 46, "length", "error", "@length does not fit this type", "texts, bytes, lists and maps have one"),
            (1, 70, "pattern", "error", "@pattern does not fit this type", "texts have one"),
            (
                1,
                96,
                "unit",
                "error",
                "@unit does not fit this type",
                "numbers have one, and lists and maps of numbers",
            ),
        ],
    ),
    "limits_that_leave_nothing": (
        "type P = Float @range(0..1)\nrecord A { a: P @range(2..3), b: Integer @range(0.2..0.8) }",
        [
            (2, 18, "range", "error", "no value keeps to these limits and to those of its type", "widen one of them"),
            (2, 43, "range", "error", "no value keeps to these limits and to those of its type", "widen one of them"),
        ],
    ),
    "limits_on_an_open_type": (
        "type A @range(0..1)",
        [
            (
                1,
                9,
                "range",
                "error",
                "@range does not fit a type that is open",
                "numbers, Duration and Timestamp have one",
            ),
        ],
    ),
    "default_out_of_range": (
        (
            'type P = Float @range(0..1)\nrecord A { a: P = 2, b: String = "abc" '
            '@length(..2), c: String = "x" @pattern("[0-9]+"), d: P[] = [0.5, 3] }'
        ),
        [
            (2, 12, "a", "error", "the default of a does not fit: 2 is more than 1", ""),
            (2, 22, "b", "error", "the default of b does not fit: 'abc' is longer than 2", ""),
            (2, 54, "c", "error", "the default of c does not fit: 'x' does not match [0-9]+", ""),
            (2, 90, "d", "error", "the default of d does not fit: 3 is more than 1", ""),
        ],
    ),
    "default_of_another_type": (
        (
            'record A { a: String = 5, b: Float = "x", c: Boolean = 1, d: Integer = 1.5, e: '
            "String[] = 5, f: Map[String, Float] = [], g: Float = 0..1, h: Integer = "
            "9999999999999999999 }"
        ),
        [
            (1, 12, "a", "error", "the default of a does not fit: 5 is no text", ""),
            (1, 27, "b", "error", "the default of b does not fit: 'x' is no number", ""),
            (1, 43, "c", "error", "the default of c does not fit: 1 is neither true nor false", ""),
            (1, 59, "d", "error", "the default of d does not fit: 1.5 is no whole number", ""),
            (1, 77, "e", "error", "the default of e does not fit: 5 is no list", ""),
            (1, 94, "f", "error", "the default of f does not fit: [] is no map", ""),
            (1, 122, "g", "error", "a range is no value", "write a number"),
            (1, 139, "h", "error", "the default of h does not fit: 9999999999999999999 has more than 64 bits", ""),
        ],
    ),
    "default_that_is_a_bare_name": (
        "record A { a: String = hello, b: Json = hello }",
        [
            (1, 12, "a", "error", "hello is no value here", 'write "hello"'),
            (1, 31, "b", "error", "hello is no value here", "a bare name is a value of an enum, true, false or null"),
        ],
    ),
    "default_null": (
        "record A { a: Float = null, b: Float? = null }",
        [
            (1, 12, "a", "error", "a cannot be null", "mark its type with ?"),
        ],
    ),
    "default_of_an_enum": (
        (
            'enum E { low, high = "HIGH" }\ntype F = E\nrecord A { a: E = lwo, b: F = high, c: '
            "E[] = [low, none], d: E? = null }"
        ),
        [
            (3, 12, "a", "error", "E has no value lwo", "did you mean low?"),
            (3, 37, "c", "error", "E has no value none", "it has low, high"),
        ],
    ),
    "default_of_a_record": (
        "record B { b: String }\nrecord A { b: B = {} }",
        [
            (2, 12, "b", "error", "the default of b does not fit: b is missing", ""),
        ],
    ),
    "field_of_the_contract": (
        "record A { _id: String }",
        [
            (1, 12, "_id", "error", "names that begin with _ are the contract's own", "write id"),
        ],
    ),
    "fields_in_place_outside_of_the_state": (
        "record A { a: Map[String, B] { b: String } }\nrecord B {}",
        [
            (
                1,
                12,
                "a",
                "error",
                "only a map of the state can say its values' fields in place",
                "write name: Map[Key, Value] { … }, or declare a record",
            ),
        ],
    ),
    "documentation_of_nothing": (
        "record A {\n  a: String\n  /// of nothing\n}",
        [
            (
                3,
                3,
                "/// of nothing",
                "warning",
                "this documents nothing",
                "put it on the line above what it is about, or write //",
            ),
        ],
    ),
    "two_blocks": (
        'edge_computing P { platform_name: "p" }\nedge_computing Q { platform_name: "q" }',
        [
            (2, 16, "Q", "error", "a file has one edge_computing block", "put the second one in a file of its own"),
        ],
    ),
    "no_title": (
        "edge_computing P { }",
        [
            (1, 16, "P", "error", "P has no platform_name", 'add platform_name: "…"'),
        ],
    ),
    "an_empty_title": (
        'edge_computing P { platform_name: " " }',
        [
            (1, 20, "platform_name", "error", "platform_name is empty or too long", "write 1 to 200 characters"),
        ],
    ),
    "a_title_that_is_a_list": (
        "edge_computing P { platform_name: [] }",
        [
            (1, 20, "platform_name", "error", "platform_name is a text", 'write platform_name: "…"'),
        ],
    ),
    "unknown_section": (
        'edge_computing P {\n  platform_name: "p"\n  workload: []\n}',
        [
            (3, 3, "workload", "error", "there is no section workload", "did you mean workloads?"),
        ],
    ),
    "section_twice": (
        'edge_computing P {\n  platform_name: "p"\n  workloads: []\n  workloads: []\n}',
        [
            (4, 3, "workloads", "error", "workloads is there twice", "it is in line 3 already"),
        ],
    ),
    "section_of_another_kind": (
        'edge_computing P {\n  platform_name: "p"\n  functions: {}\n  events: { a: String }\n  state: []\n}',
        [
            (4, 3, "events", "error", "events is a list", "write events: [ … ]"),
        ],
    ),
    "names_with_parentheses": (
        'edge_computing P {\n  platform_name: "p"\n  workloads: [A()]\n}',
        [
            (3, 15, "A", "error", "workloads are names", "write A without parentheses"),
        ],
    ),
    "an_annotated_name": (
        'edge_computing P {\n  platform_name: "p"\n  workloads: [A @edge]\n}',
        [
            (3, 18, "edge", "error", "@edge cannot mark a name in a list", "it marks a function"),
        ],
    ),
    "function_twice": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [f(), f()]\n}',
        [
            (3, 20, "f", "error", "f is there twice", "it is in line 3 already"),
        ],
    ),
    "function_without_parentheses": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [f]\n}',
        [
            (3, 15, "f", "error", "f has no parameters", "write f()"),
        ],
    ),
    "function_that_is_no_topic": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [_f()]\n}',
        [
            (3, 15, "_f", "error", "_f cannot be the last level of a topic: it begins with _", "write f"),
        ],
    ),
    "two_placements": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [f() @edge @cloud]\n}',
        [
            (
                3,
                15,
                "f",
                "error",
                "f has 2 placements: @edge, @cloud",
                "leave one of them; @any means a node if it can, else the coordinator",
            ),
        ],
    ),
    "a_personal_result_in_the_cloud": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [f(): String @cloud @personal]\n}',
        [
            (
                3,
                15,
                "f",
                "error",
                "f is @personal, so its result must not leave the node, and it is hosted in the @cloud",
                "make it @edge",
            ),
        ],
    ),
    "a_timeout_that_is_none": (
        'edge_computing P {\n  platform_name: "p"\n  functions: [f() @timeout(5), g() @parallel(99)]\n}',
        [
            (
                3,
                20,
                "timeout",
                "error",
                "@timeout has the wrong arguments",
                "it takes one length of time such as 30s, 5m or 90d",
            ),
            (
                3,
                37,
                "parallel",
                "error",
                "@parallel has the wrong arguments",
                "it takes one whole number from 1 to 16",
            ),
        ],
    ),
    "event_without_a_source": (
        'record R {}\nedge_computing P {\n  platform_name: "p"\n  events: [E(r: R)]\n}',
        [
            (
                4,
                12,
                "E",
                "error",
                "E has no source",
                "say who tells it: @source(node), @source(coordinator), or functions or workloads of this platform",
            ),
        ],
    ),
    "event_with_an_unknown_source": (
        (
            'edge_computing P {\n  platform_name: "p"\n  functions: [count()]\n  events: [E() '
            "@source(cuont), F() @source(node, node)]\n}"
        ),
        [
            (4, 17, "source", "error", "there is no cuont that could tell E", "did you mean count?"),
            (4, 37, "source", "error", "node is a source twice", "leave one out"),
        ],
    ),
    "event_that_returns": (
        'edge_computing P {\n  platform_name: "p"\n  events: [E(): String @source(node)]\n}',
        [
            (3, 17, "String", "error", "E is an event: it returns nothing", "leave the type out"),
        ],
    ),
    "event_without_parentheses": (
        'edge_computing P {\n  platform_name: "p"\n  events: [E @source(node)]\n}',
        [
            (3, 12, "E", "error", "E has no fields", "write E()"),
        ],
    ),
    "event_that_is_no_topic": (
        'edge_computing P {\n  platform_name: "p"\n  events: [__() @source(node)]\n}',
        [
            (3, 12, "__", "error", "__ cannot be the last level of a topic: it begins with _", "write a word"),
        ],
    ),
    "personal_event_of_the_coordinator": (
        'edge_computing P {\n  platform_name: "p"\n  events: [E() @source(coordinator) @personal]\n}',
        [
            (
                3,
                12,
                "E",
                "error",
                "E is @personal, so it must not leave the node, and the coordinator alone tells it",
                "leave @personal out, or let a node tell it",
            ),
        ],
    ),
    "collection_that_is_no_map": (
        'edge_computing P {\n  platform_name: "p"\n  state: { a: String }\n}',
        [
            (3, 15, "String", "error", "a is no map", "write Map[Key, Value]"),
        ],
    ),
    "collection_twice": (
        'edge_computing P {\n  platform_name: "p"\n  state: { a: Map[String, String], a: Map[String, String] }\n}',
        [
            (3, 36, "a", "error", "a is there twice", "it is in line 3 already"),
        ],
    ),
    "collection_with_a_default": (
        'edge_computing P {\n  platform_name: "p"\n  state: { a: Map[String, String] = {} }\n}',
        [
            (3, 12, "a", "error", "a has a default", "a collection begins empty; leave it out"),
        ],
    ),
    "collection_of_the_contract": (
        'edge_computing P {\n  platform_name: "p"\n  state: { _a: Map[String, String] }\n}',
        [
            (3, 12, "_a", "error", "names that begin with _ are the contract's own", "write a"),
        ],
    ),
    "personal_collection_of_both": (
        'edge_computing P {\n  platform_name: "p"\n  state: { a: Map[String, String] @personal @owner(shared) }\n}',
        [
            (
                3,
                12,
                "a",
                "error",
                "a is @personal, so it must not leave the node, and is not owned by the node alone",
                "write @owner(node)",
            ),
        ],
    ),
    "merge_that_says_nothing": (
        (
            'edge_computing P {\n  platform_name: "p"\n'
            "  state: { a: Map[String, Float] @owner(coordinator) @merge(max) }\n}"
        ),
        [
            (
                3,
                55,
                "merge",
                "error",
                "@merge says nothing: the coordinator alone writes it",
                "leave it out",
            ),
        ],
    ),
    "merge_that_does_not_fit": (
        (
            'edge_computing P {\n  platform_name: "p"\n  state: { a: Map[String, String] '
            "@owner(shared) @merge(max), b: Map[String, String] @owner(shared) @merge(union) "
            "}\n}"
        ),
        [
            (3, 51, "merge", "error", "@merge(max) needs numbers", "take another rule"),
            (3, 102, "merge", "error", "@merge(union) needs lists", "take another rule"),
        ],
    ),
    "fields_in_place_of_a_list": (
        'edge_computing P {\n  platform_name: "p"\n  state: { a: Map[String, R[]] { b: String } }\n}\nrecord R {}',
        [
            (
                3,
                12,
                "a",
                "error",
                "only a map of the state can say its values' fields in place",
                "write name: Map[Key, Value] { … }, or declare a record",
            ),
        ],
    ),
    "fields_in_place_declared_twice": (
        'edge_computing P {\n  platform_name: "p"\n  state: { a: Map[String, R] { b: String } }\n}\nrecord R {}',
        [
            (3, 27, "R", "error", "R is declared twice", "it is declared in line 5 already"),
        ],
    ),
    "unknown_import": (
        'import nowhere\nimport "none.edge"\nimport "/etc/passwd"',
        [
            (
                1,
                8,
                "nowhere",
                "error",
                "there is no platform nowhere",
                "put nowhere.edge beside this file, or install the platform",
            ),
            (2, 8, '"none.edge"', "error", "there is no file none.edge", ""),
            (
                3,
                8,
                '"/etc/passwd"',
                "error",
                "/etc/passwd is no path of a .edge file",
                'write import "name.edge", with the way from the folder of this file',
            ),
        ],
    ),
}


def problems(text: str) -> list[Problem]:
    try:
        return list(load_text(text, "p").warnings)
    except SchemaError as error:
        return list(error.problems)


def told(text: str) -> list[Told]:
    found = problems(text)
    return [(p.place.line, p.place.column, p.underlined, p.severity.value, p.message, p.hint) for p in found]


@pytest.mark.parametrize("name", SYNTAX)
def test_an_error_of_the_syntax_is_told(name: str) -> None:
    text, expected = SYNTAX[name]
    assert told(text) == expected


@pytest.mark.parametrize("name", CHECKED)
def test_an_error_of_the_meaning_is_told(name: str) -> None:
    text, expected = CHECKED[name]
    assert told(text) == expected


def test_all_errors_are_told_in_one_run() -> None:
    """Errors of the syntax do not hide those of the rest, and those of the rest do not follow from them."""
    text = """
record Broken { a String, b: }

record Uses_The_Broken_One { broken: Broken, unknown: Nowhere }

edge_computing P {
  platform_name: "p"
  functions: [
    good(a: Missing) @edge @cloud,
    bad(a: String,, b: ),
    other(a: Broken)
  ]
  events: [Told() @source(bad), Lost() @source(nobody)]
}
"""
    assert [(one.place.line, one.message) for one in problems(text)] == [
        (2, "expected :, not 'String'"),
        (2, "expected a type, not '}'"),
        (4, "there is no type Nowhere"),
        (9, "good has 2 placements: @edge, @cloud"),
        (9, "there is no type Missing"),
        (10, "expected a parameter or ), not ','"),
        (13, "there is no nobody that could tell Lost"),
    ]


def test_a_bracket_that_is_missing_is_told_where_it_shows() -> None:
    text = """edge_computing P {
  platform_name: "p"
  state: {
    a: Map[String, V] {
      x: String

    b: Map[String, V]
  }
  events: [A()]
}
"""
    (problem,) = problems(text)
    assert problem.message == "the { in line 3 is not closed before 'events'"
    (problem,) = problems("recrod A { a: String }\nrecord B { x: A }")
    assert problem.hint == "did you mean record?"


def test_what_was_left_out_is_not_missed() -> None:
    """A record of which nothing can be read is still a type, a function a source, an import a place of names."""
    text = "record Gone { 5 5 5 5 5 5 5 5 }\nrecord B { a: Gone }"
    assert [one.place.line for one in problems(text)] == [1]
    text = "import nowhere\nrecord B { a: From_There }"
    assert [one.message for one in problems(text)] == ["there is no platform nowhere"]
    text = 'edge_computing P { platform_name "p" "q" "r" "s" "t" "u" }'
    assert [one.place.column for one in problems(text)] == [34]


def test_one_mistake_is_told_once() -> None:
    """Far more lines follow the mistake than the messages that it may cause."""
    rest = "".join(f"record R{i} {{\n  a: String, b: R0?\n}}\n" for i in range(50))
    for mistake in (
        "record A {\n  a: String\n",
        "record A }\n",
        "enum A { a: b: c }\n",
        "record A { a: [String] }\n",
    ):
        found = problems(mistake + rest)
        assert len(found) == 1, [str(one) for one in found]
        assert found[0].place.line <= 3


def test_a_problem_is_shown_with_its_line_underlined() -> None:
    (problem,) = problems('edge_computing P { platform_name: "智联" }\nrecord 路 {}')
    assert str(problem) == (
        "p.edge:2:8: error: '路' is no name\n"
        "2 | record 路 {}\n"
        "  |        ^^\n"
        "  names have the letters a to z and A to Z, digits and _"
    )


def test_characters_of_two_columns_move_the_underline() -> None:
    (problem,) = problems('record A { a: Json = "智联" b: Foo }')
    line, underline = str(problem).split("\n")[1:3]
    assert underline.index("^") - line.index("Foo") == 2  # two characters before it are wide
    assert underline.count("^") == 3


def test_a_long_line_is_cut_around_the_place() -> None:
    fields = ", ".join(f"a{i}: String" for i in range(300))
    (problem,) = problems(f"record A {{ {fields}, z: Foo, {fields.replace('a', 'b')} }}")
    shown = str(problem)
    assert len(shown) < 600
    line, underline = shown.split("\n")[1:3]
    assert line[underline.index("^") :].startswith("Foo")


def test_a_terminal_is_not_obeyed() -> None:
    shown = "\n".join(str(one) for one in problems("record A { a: \x1b[31m Foo }"))
    assert "\x1b" not in shown


def test_parse_raises_only_errors() -> None:
    assert parse("record A {\n  a: String\n  /// of nothing\n}").declarations
    with pytest.raises(SchemaError, match="expected :"):
        parse("record A { a String }")


def test_every_annotation_refuses_wrong_arguments() -> None:
    """Whatever the table has: an argument that cannot be right is refused at a place where it may stand."""
    places = {
        "record A {{ a: String {} }}",
        "type T = Float {}",
        "record A {} {{ }}".replace("{}", "{}"),
        'edge_computing P {{ platform_name: "p" functions: [f() {}] }}',
        'edge_computing P {{ platform_name: "p" events: [E() {}] }}',
        'edge_computing P {{ platform_name: "p" state: {{ a: Map[String, String] {} }} }}',
        'edge_computing P {} {{ platform_name: "p" }}',
    }
    for name in ANNOTATIONS:
        messages = {one.message for place in places for one in problems(place.format(f'@{name}("x", "y", {{}})'))}
        assert f"@{name} has the wrong arguments" in messages


def test_files_of_an_import_are_schemas(tmp_path: Path) -> None:
    """No other file is opened, so none is shown in a message."""
    (tmp_path / "secret.txt").write_text("password")
    with pytest.raises(SchemaError) as caught:
        load_text('import "secret.txt"', folder=tmp_path)
    assert "password" not in str(caught.value)

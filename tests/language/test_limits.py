"""What is too much is refused with the limit in the message, and nothing here takes long or recurses deep."""

import pytest

from schemas.language import limits
from schemas.language.load import load_text
from schemas.language.problems import SchemaError


def refusal(text: str) -> str:
    with pytest.raises(SchemaError) as caught:
        load_text(text)
    return str(caught.value)


BLOCK = 'edge_computing P {{ platform_name: "p" functions: [{}] }}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("//" + "x" * limits.FILE_BYTES_MAX, f"more than {limits.FILE_BYTES_MAX} bytes"),
        ("a " * (limits.TOKENS_MAX + 1), f"more than {limits.TOKENS_MAX} words and marks"),
        (f"record A {{ a: {'Map[' * 40}", f"nested deeper than {limits.NESTING_MAX} levels"),
        (f"record A {{ a: Json = {'[' * 40}{']' * 40} }}", f"nested deeper than {limits.NESTING_MAX} levels"),
        (f"record A {{ a: String{'[]' * 40} }}", f"nested deeper than {limits.NESTING_MAX} levels"),
        (f"record A {{ a: {'List[' * 20}String{'[]' * 20}{']' * 20} }}", f"deeper than {limits.NESTING_MAX} levels"),
        (f"record {'A' * 65} {{}}", f"at most {limits.NAME_CHARS_MAX} are allowed"),
        ("".join(f"record A{i} {{}}\n" for i in range(limits.DECLARATIONS_MAX + 1)), "at most 10000 are allowed"),
        (
            f"record A {{ {', '.join(f'a{i}: String' for i in range(1001))} }}",
            "1001 fields; at most 1000 are allowed",
        ),
        (f"enum A {{ {', '.join(f'a{i}' for i in range(1001))} }}", "1001 values; at most 1000 are allowed"),
        (
            BLOCK.format(f"f({', '.join(f'a{i}: String' for i in range(1001))})"),
            "1001 parameters; at most 1000 are allowed",
        ),
        (BLOCK.format(", ".join(f"f{i}()" for i in range(10_001))), "10001 entries of a list; at most 10000"),
        ("".join(f"type A{i} = A{i + 1}\n" for i in range(50)) + "type A50 = Float", "more than 32 times"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) and len(value) < 200 else "text",
)
def test_more_than_a_limit_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


def test_long_chains_of_records_need_no_deep_stack() -> None:
    chain = "".join(f"record R{i} {{ a: R{i + 1}? }}\n" for i in range(9998))
    assert len(load_text(chain + "record R9998 { a: R0? }").schema.types) == 9999


def test_a_record_that_must_nest_deeper_than_messages_do_is_refused() -> None:
    chain = "".join(f"record R{i} {{ a: R{i + 1} }}\n" for i in range(2998)) + "record R2998 {}"
    told = refusal(chain)
    assert told.count("error") == 1, "once, not for every record above it"
    assert "every R2967 is nested 32 levels deep" in told


def test_a_circle_of_thousands_is_told_once() -> None:
    circle = "".join(f"record R{i} {{ a: R{(i + 1) % 3000} }}\n" for i in range(3000))
    told = refusal(circle)
    assert told.count("error") == 1
    assert len(told) < 500


@pytest.mark.parametrize("text", ["record A{} {{ a: B{} }}", "record A{} {{ a String }}"])
def test_a_hundred_errors_are_told_and_the_others_counted(text: str) -> None:
    told = refusal("\n".join(text.format(i, i) for i in range(300)))
    assert told.count(": error: ") == limits.ERRORS_MAX + 1
    assert "more" in told.rsplit(": error: ", 1)[1]


def test_a_pattern_that_takes_for_ever_is_not_tried() -> None:
    """At a default of forty letters this one would run for hours."""
    assert load_text(f'record A {{ a: String = "{"a" * 40}" @pattern("(a*)*b") }}').warnings == ()

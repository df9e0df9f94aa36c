"""Versions: what is one, and which comes after which."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.models.versions import Version, VersionError, parse_reference, parse_version

# In the order of SemVer 2.0.0, section 11.
ORDER = [
    "0.0.1", "0.9.0", "1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0-0", "2.0.0",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDER)
def test_a_version_is_shown_as_it_was_written(text: str) -> None:
    assert str(parse_version(text)) == text


def test_versions_are_in_the_order_of_semver() -> None:
    versions = [parse_version(text) for text in ORDER]
    shuffled = versions[1::2] + versions[::2]
    assert sorted(shuffled) == versions
    assert all(a < b for a, b in pairwise(versions))


@pytest.mark.parametrize(("text", "whole"), [("1", "1.0.0"), ("1.2", "1.2.0"), ("3-rc.1", "3.0.0-rc.1")])
def test_short_versions_of_bundles_are_taken(text: str, whole: str) -> None:
    assert str(parse_version(text)) == whole


@pytest.mark.parametrize(
    "text",
    ["", "v1", "1.", "1.2.3.4", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0-ä", "1.0.0 ", "1.0.0\n",
     "latest", "-1", "1.0.0-" + "x" * 70, "9999999999", "١.0.0"],
)  # fmt: skip
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(VersionError, match="is no version"):
        parse_version(text)


def test_build_metadata_is_refused_with_the_reason() -> None:
    with pytest.raises(VersionError, match="build metadata"):
        parse_version("1.0.0+7")


words = st.one_of(
    st.integers(0, 10**6).map(str), st.from_regex(r"[0-9]{0,3}[A-Za-z-][0-9A-Za-z-]{0,4}", fullmatch=True)
)
numbers = st.integers(0, 999_999_999)
versions = st.builds(Version, numbers, numbers, numbers, st.lists(words, max_size=3).map(tuple))


@given(versions, versions, versions)
def test_order_is_total_and_survives_text(a: Version, b: Version, c: Version) -> None:
    assert parse_version(str(a)) == a
    assert (a < b) + (b < a) + (a == b) == 1
    if a < b and b < c:
        assert a < c


def test_a_reference_is_a_name_with_or_without_a_version() -> None:
    assert parse_reference("finder") == ("finder", "")
    assert parse_reference("finder@2") == ("finder", "2.0.0")
    for wrong in ("", "@1", "finder@", "finder@x"):
        with pytest.raises(VersionError):
            parse_reference(wrong)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.address import redact, scrub, with_credentials, without_credentials

WORDS = st.text(min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://bob:secret@10.0.0.1:554/ch1", "rtsp://***@10.0.0.1:554/ch1"),
        ("rtsp://bob@cam/ch1", "rtsp://***@cam/ch1"),
        ("rtsp://bob:p@ss@cam/ch1", "rtsp://***@cam/ch1"),
        ("rtsp://cam/ch1?email=a@b", "rtsp://cam/ch1?email=a@b"),
        ("two: http://a:b@c/ and rtsp://d:e@f", "two: http://***@c/ and rtsp://***@f"),
        ("/videos/a@b.mp4", "/videos/a@b.mp4"),
        ("rtsp://cam/user=a&password=b&ch=1", "rtsp://cam/user=a&password=***&ch=1"),
        ("http://cam/video?pwd=b#x", "http://cam/video?pwd=***"),
        ("rtsp://cam/pass/2", "rtsp://cam/pass/2"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(user=WORDS, password=WORDS)
def test_credentials_survive_the_address(user: str, password: str) -> None:
    url = with_credentials("rtsp://cam:554/ch1?x=1", user, password)
    assert without_credentials(url) == ("rtsp://cam:554/ch1?x=1", user, password)
    assert redact(url) == "rtsp://***@cam:554/ch1?x=1"


def test_given_credentials_replace_those_of_the_address() -> None:
    assert with_credentials("rtsp://old:one@cam/x", "new", "two") == "rtsp://new:two@cam/x"
    assert with_credentials("rtsp://old:one@cam/x", "", "") == "rtsp://old:one@cam/x"


def test_scrub_also_finds_a_secret_outside_an_address() -> None:
    text = scrub("auth failed for 'p/w d' at rtsp://u:p%2Fw%20d@cam, sent p%2Fw%20d", "p/w d")
    assert text == "auth failed for '***' at rtsp://***@cam, sent ***"

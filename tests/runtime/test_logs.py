import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.logs import LogForm, LogOnce, Redactor, redact_urls, setup_logging

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging is one per process: give it back as it was."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    root.handlers[:] = []  # setup closes what it replaces; pytest's handlers must survive
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks


def fail() -> None:
    raise OSError("cannot open rtsp://admin:hunter2@10.0.0.5/cam")


def log_failure() -> None:
    try:
        fail()
    except OSError:
        logging.getLogger("agent.capture").exception("camera %s failed", "front")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("rtsp://admin:secret@10.0.0.5:554/h264", "rtsp://***@10.0.0.5:554/h264"),
        ("rtsp://admin@10.0.0.5/h264", "rtsp://***@10.0.0.5/h264"),
        ("open 'rtsp://u:p@ss/w0rd@cam.lan/1': timeout", "open 'rtsp://***@cam.lan/1': timeout"),
        ("two: http://a:b@x/1 and mqtts://c:d@y:8883", "two: http://***@x/1 and mqtts://***@y:8883"),
        ("http://cam/v.cgi?user=admin&pwd=abc&rate=5", "http://cam/v.cgi?user=admin&pwd=***&rate=5"),
        ("http://cam/v?TOKEN=abc", "http://cam/v?TOKEN=***"),
        ("mail a@b.c about http://host/path", "mail a@b.c about http://host/path"),
        ("file:///srv/clip.mp4", "file:///srv/clip.mp4"),
        ("no address here", "no address here"),
    ],
)
def test_credentials_in_addresses_are_hidden(text: str, redacted: str) -> None:
    assert redact_urls(text) == redacted


def test_registered_secrets_are_hidden_in_every_form() -> None:
    redactor = Redactor(["pa ss/word", "pa ss"])
    redactor.register("t0ken")
    assert redactor.redact("pa ss/word pa%20ss%2Fword t0ken pa ss") == "*** *** *** ***"


def test_very_short_secrets_do_not_riddle_the_log() -> None:
    assert Redactor(["a", ""]).redact("a camera") == "a camera"


WORD = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"], exclude_characters="\"'<>"), min_size=1)


@given(user=WORD, password=WORD)
def test_no_password_survives_in_an_address(user: str, password: str) -> None:
    text = f"cannot open rtsp://{user}:{password}@camera/1, retry"
    assert redact_urls(text) == "cannot open rtsp://***@camera/1, retry"


def test_plain_is_one_line_with_utc_time(restored: None) -> None:
    out = io.StringIO()
    setup_logging(form=LogForm.PLAIN, stream=out)
    logging.getLogger("agent.link").info("broker said %r and\nmore", "hello")
    line = out.getvalue()
    assert line.endswith("Z INFO agent.link: broker said 'hello' and\\nmore\n")
    assert line.count("\n") == 1
    assert line[10] == "T"


def test_journal_lines_all_carry_the_priority(restored: None) -> None:
    out = io.StringIO()
    setup_logging(form=LogForm.JOURNAL, stream=out, level="DEBUG")
    logging.getLogger("a").debug("d")
    logging.getLogger("a").warning("w")
    log_failure()
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["<7>a: d", "<4>a: w", "<3>agent.capture: camera front failed"]
    assert len(lines) > 5
    assert all(line.startswith("<3>    | ") for line in lines[3:])


def test_json_is_one_object_per_line(restored: None) -> None:
    out = io.StringIO()
    setup_logging(form=LogForm.JSON, stream=out, secrets=['quo"ted'])
    log_failure()
    logging.getLogger("x").info('with quo"ted in it')
    first, second = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (first["level"], first["logger"], first["message"]) == ("error", "agent.capture", "camera front failed")
    assert "rtsp://***@10.0.0.5/cam" in first["traceback"]
    assert second["message"] == "with *** in it"
    assert "traceback" not in second


@pytest.mark.parametrize("form", [LogForm.PLAIN, LogForm.JOURNAL, LogForm.JSON])
def test_secrets_do_not_reach_the_log_by_any_way(restored: None, form: LogForm) -> None:
    out = io.StringIO()
    redactor = setup_logging(form=form, stream=out)
    redactor.register("s3cr3t")
    log_failure()
    logging.getLogger("x").warning("password %s", "s3cr3t")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("s3cr3t in a warning", stacklevel=1)
    thread = threading.Thread(target=fail, name="camera-front")
    thread.start()
    thread.join()
    text = out.getvalue()
    assert "hunter2" not in text
    assert "s3cr3t" not in text
    assert "camera-front" in text
    assert "in a warning" in text


def test_setting_up_again_replaces_the_first(restored: None) -> None:
    first, second = io.StringIO(), io.StringIO()
    setup_logging(form=LogForm.PLAIN, stream=first)
    setup_logging("WARNING", form=LogForm.PLAIN, stream=second)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert first.getvalue() == ""
    assert second.getvalue().endswith("WARNING x: loud\n")


def test_an_uncaught_exception_is_logged_without_credentials() -> None:
    program = (
        "from runtime.logs import LogForm, setup_logging\n"
        "setup_logging(form=LogForm.PLAIN)\n"
        "raise OSError('cannot open rtsp://admin:hunter2@cam/1')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CRITICAL uncaught: the process ends" in done.stderr
    assert "rtsp://***@cam/1" in done.stderr
    assert "hunter2" not in done.stderr


def test_the_form_follows_the_stream(restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryFile("w+") as ours:
        status = os.fstat(ours.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        setup_logging(stream=ours)
        logging.getLogger("x").error("to the journal")
        inherited = io.StringIO()
        setup_logging(stream=inherited)
        logging.getLogger("x").error("elsewhere")
        ours.seek(0)
        assert ours.read() == "<3>x: to the journal\n"
        assert inherited.getvalue().endswith("Z ERROR x: elsewhere\n")


def test_a_loss_is_told_once_and_so_is_the_return(caplog: pytest.LogCaptureFixture) -> None:
    once = LogOnce(logging.getLogger("link"))
    with caplog.at_level(logging.DEBUG):
        once.back("broker", "broker is back")
        for attempt in range(3):
            once.lost("broker", "broker lost, attempt %d", attempt)
        once.lost("camera", "camera lost")
        once.back("broker", "broker is back")
        once.back("broker", "broker is back")
        once.lost("broker", "broker lost again")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "broker lost, attempt 0"),
        ("DEBUG", "broker lost, attempt 1"),
        ("DEBUG", "broker lost, attempt 2"),
        ("WARNING", "camera lost"),
        ("INFO", "broker is back"),
        ("WARNING", "broker lost again"),
    ]


def test_the_memory_of_losses_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    once = LogOnce(logging.getLogger("link"), keys_max=2)
    for key in ("a", "b", "c", "a"):
        once.lost(key, "lost %s", key)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4

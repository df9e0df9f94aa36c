from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from runtime.backoff import Backoff
from runtime.config import CONFIG_BYTES_MAX, BrokerConfig, load, secret
from runtime.errors import ConfigError
from schemas.shape import Limit


@dataclass(frozen=True, slots=True)
class Sample:
    count: Annotated[int, Limit(ge=1, le=10)] = 1
    broker: BrokerConfig = BrokerConfig()


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "sample.toml"
    path.write_bytes(content)
    return path


def test_every_mistake_is_in_one_report(tmp_path: Path) -> None:
    path = written(tmp_path, b'count = -3\nconut = 1\n[broker]\nport = 70000\nhost = ""\ntopic_root = "a/#"\n')
    with pytest.raises(ConfigError) as caught:
        load(Sample, path)
    report = str(caught.value)
    assert "5 mistakes" in report.splitlines()[0]
    assert str(path) in report
    for text in (
        "count: -3",
        "did you mean count?",
        "broker.port: 70000",
        "broker.host: too short",
        "levels without",
    ):
        assert text in report


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"count = \n", "is not TOML", id="no TOML"),
        pytest.param(b"\xff\xfe", "is not UTF-8", id="no UTF-8"),
        pytest.param(b"#" * (CONFIG_BYTES_MAX + 1), "is no configuration", id="too large"),
        pytest.param(b"count = " + b"9" * 5000, "is not TOML", id="a number of 5000 digits"),
        pytest.param(b"count = 0x1" + b"0" * 5000, "must be at most 10", id="a hexadecimal number of 5000 digits"),
        pytest.param(b"count = " + b"[" * 5000 + b"]" * 5000, "is not TOML", id="5000 lists in each other"),
        pytest.param(b"count = 1\ncount = 2\n", "is not TOML", id="a key twice"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, content: bytes, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        load(Sample, written(tmp_path, content))
    assert "sample.toml" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_an_absent_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Sample, tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Sample, tmp_path)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(Sample, written(tmp_path, b"")) == Sample()


def test_secrets_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "password"
    kept.write_text("s3cret-of-file\n", encoding="utf-8")
    monkeypatch.setenv("EDGE_TEST_PASSWORD", "s3cret-of-env")
    of_file = BrokerConfig(username="gw", password_file=kept).address()
    of_env = BrokerConfig(username="gw", password_env="EDGE_TEST_PASSWORD").address()
    assert (of_file.password, of_env.password) == ("s3cret-of-file", "s3cret-of-env")
    assert BrokerConfig().address().password == ""
    for address in (of_file, of_env):
        assert "s3cret" not in repr(address) + str(address)


def test_a_secret_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_TEST_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="EDGE_TEST_PASSWORD"):
        secret("broker.password", None, "EDGE_TEST_PASSWORD")
    with pytest.raises(ConfigError, match="cannot be read"):
        secret("broker.password", tmp_path / "absent", "")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is empty"):
        secret("broker.password", tmp_path / "empty", "")
    (tmp_path / "binary").write_bytes(b"hush\xff")
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        secret("broker.password", tmp_path / "binary", "")
    assert "hush" not in repr(caught.value) + repr(caught.value.__cause__)


def test_certificates_are_checked_before_anything_is_tried(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"broker\.ca_file: .* does not exist"):
        BrokerConfig(tls=True, ca_file=tmp_path / "absent.pem").address()
    (tmp_path / "ca.pem").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing would be encrypted"):
        BrokerConfig(tls=False, ca_file=tmp_path / "ca.pem").address()


@pytest.mark.parametrize(
    ("attempt", "jitter", "wait_s"),
    [(0, 0, 0.25), (0, 1, 0.5), (1, 1, 1), (3, 0.5, 3), (7, 1, 60), (100000, 1, 60), (100000, 0, 30)],
)
def test_back_off_grows_and_is_capped(attempt: int, jitter: float, wait_s: float) -> None:
    assert Backoff().wait_s(attempt, jitter) == pytest.approx(wait_s)

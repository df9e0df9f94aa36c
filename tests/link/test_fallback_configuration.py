"""`[[broker.fallbacks]]`: what it makes of a configuration, old ones included, and what it refuses."""

import re
from pathlib import Path

import pytest

from agent.check import check_models
from agent.config import inspect_config, load_config
from agent.link.brokers import BrokerRules
from agent.link.settings import LinkSettings
from runtime.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(f'[node]\nid = "gw-1"\n{text}')
    return path


def test_a_configuration_without_fallbacks_has_one_broker(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, '[broker]\nhost = "b1"\n'))
    assert [str(address) for address in config.broker.addresses()] == ["mqtt://b1:1883"]
    assert config.link.broker_rules == BrokerRules(30.0, 120.0, 120.0)


def test_each_fallback_has_an_address_tls_and_user_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "p2").write_text("second\n")
    (tmp_path / "ca").write_text("x")
    text = """
[broker]
host = "b1"
username = "gw-1"
[[broker.fallbacks]]
host = "b2"
port = 8883
username = "other"
password_file = "p2"
tls = true
ca_file = "ca"
[[broker.fallbacks]]
host = "b2"
keepalive_s = 60
[link]
probe_s = 5
return_after_s = 7
silent_after_s = 9
"""
    config = load_config(write(tmp_path, text))
    first, second, third = config.broker.addresses()
    assert (str(first), first.username, first.password) == ("mqtt://b1:1883", "gw-1", "")
    assert (str(second), second.username, second.password) == ("mqtts://b2:8883", "other", "second")
    assert second.ca_file == tmp_path / "ca"
    assert (str(third), third.username, third.keepalive_s) == ("mqtt://b2:1883", "", 60)
    assert config.link.broker_rules == BrokerRules(5, 7, 9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[broker.fallbacks]]\nhost = "127.0.0.1"', "broker.fallbacks[0]: 127.0.0.1:1883 is broker already"),
        (
            '[[broker.fallbacks]]\nhost = "b"\n[[broker.fallbacks]]\nhost = "b"',
            "broker.fallbacks[1]: b:1883 is broker.fallbacks[0] already",
        ),
        ('[[broker.fallbacks]]\ntopic_root = "x"', "broker.fallbacks[0].topic_root: unknown key"),
        ("[[broker.fallbacks]]\nport = 0", "broker.fallbacks[0].port: 0 must be at least 1"),
        ('fallbacks = ["b2"]', "broker.fallbacks[0]: 'b2' must be a table"),
        ("".join(f'[[broker.fallbacks]]\nhost = "b{n}"\n' for n in range(8)), "too long: 8, at most 7"),
        ("[link]\nprobe_s = 0", "link.probe_s: 0.0 must be at least 1"),
        ("[link]\nreturn_after_s = 0", "link.return_after_s: 0.0 must be at least 1"),
        ("[link]\nsilent_after_s = 1", "link.silent_after_s: 1.0 must be at least 5"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, f"[broker]\n{text}\n"))
    assert said in str(caught.value)


def test_what_a_fallback_names_must_be_there(tmp_path: Path) -> None:
    text = '[broker]\n[[broker.fallbacks]]\nhost = "b2"\ntls = true\nca_file = "absent"\n'
    config, mistakes = inspect_config(write(tmp_path, text))
    assert config is not None and mistakes == []
    assert check_models(config, []) == [f"broker.fallbacks[0].ca_file: {tmp_path}/absent does not exist"]


def test_the_example_of_the_page_is_true(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "brokers.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    config = load_config(write(tmp_path, example))
    assert [str(address) for address in config.broker.addresses()] == [
        "mqtt://broker-1.plant:1883",
        "mqtt://broker-2.plant:1883",
        "mqtts://broker.example.net:8883",
    ]
    assert config.link == LinkSettings()  # it shows the defaults

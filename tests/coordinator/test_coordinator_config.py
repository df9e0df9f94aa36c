"""The configuration: every mistake in one report, every key in the sample."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.config import CoordinatorConfig, CoordinatorTable, LogTable, load_config
from coordinator.evidence.settings import EvidenceTable
from coordinator.fleet.settings import FleetTable
from coordinator.models.settings import ModelsTable
from coordinator.store.place import PostgresPlace
from coordinator.store.settings import StoreTable
from runtime.config import BrokerConfig
from runtime.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy" / "coordinator.toml"


def test_the_sample_is_valid_and_says_the_defaults(tmp_path: Path) -> None:
    sample = tmp_path / "coordinator.toml"
    # Every commented assignment as well: what the sample shows must be right.
    text = re.sub(r"^# (\w+ = )", r"\1", SAMPLE.read_text(), flags=re.MULTILINE)
    kept = [line for line in text.splitlines() if not re.match(r"(password|ca|cert|key|dsn|s3_\w+)_file", line)]
    sample.write_text("\n".join(kept))
    assert load_config(sample) == CoordinatorConfig(platforms={"enabled": [], "folders": []})


@pytest.mark.parametrize(
    "table", [CoordinatorTable, StoreTable, BrokerConfig, EvidenceTable, FleetTable, ModelsTable, LogTable]
)
def test_every_key_is_in_the_sample(table: type[CoordinatorTable]) -> None:
    text = SAMPLE.read_text()
    missing = [f.name for f in dataclasses.fields(table) if not re.search(rf"^(# )?{f.name} = ", text, re.MULTILINE)]
    assert missing == []


def test_all_mistakes_come_in_one_report(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[coordinator]\nbatch_pause = 3\nheartbeat_s = -1e300\nbatch_messages_max = "many"\n'
        '[broker]\nport = 99999999999999999999\ntopic_root = "a/#"\n[log]\nlevel = "LOUD"\n[cloud]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    for said in (
        "7 mistakes", "coordinator.batch_pause: unknown key", "mean batch_pause_ms", "coordinator.heartbeat_s",
        "coordinator.batch_messages_max", "broker.port", "broker.topic_root", "log.level", "cloud: unknown key",
    ):  # fmt: skip
        assert said in str(caught.value)


def test_several_brokers_are_tables_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[broker]\ntopic_root = "edge/v2"\n'
        '[[brokers]]\nname = "north"\nport = 1\n[[brokers]]\nname = "south"\nport = 2\n'
    )
    config = load_config(file)
    assert [(place, one.name, one.port) for place, one in config.named_brokers()] == [
        ("brokers[0]", "north", 1),
        ("brokers[1]", "south", 2),
    ]
    assert (config.topic_root, config.address().port) == ("edge/v2", 1)


def test_several_coordinators_need_what_lets_any_of_them_lead(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[coordinator]\nreplicas = true\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    for said in (
        "3 mistakes", 'set store.backend = "postgres"', "coordinator.instance: is needed with replicas",
        "coordinator.files_dir: is needed with replicas while models.backend and evidence.backend is disk",
    ):  # fmt: skip
        assert said in str(caught.value)
    file.write_text(
        '[coordinator]\nreplicas = true\ndata_dir = "d"\nfiles_dir = "f"\n'
        '[store]\nbackend = "postgres"\ndsn = "dbname=x"\n'
    )
    table = load_config(file, "a").coordinator
    assert (table.client_id, table.files, table.data_dir) == ("coordinator-a", tmp_path / "f", tmp_path / "d")
    with pytest.raises(ConfigError, match="--instance: 'A b' must be"):
        load_config(file, "A b")


def test_brokers_that_are_mixed_up_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    one = '[[brokers]]\nname = "north"\nport = 1\n'
    file.write_text(f'[broker]\nhost = "elsewhere"\n{one}{one}[[brokers]]\nname = "s"\ncert_file = "/nowhere/c"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    for said in (
        "5 mistakes", "broker: with [[brokers]] only its topic_root counts", "brokers[1]: has the name of brokers[0]",
        "brokers[1]: has the address of brokers[0]", "brokers[2]: cert_file and key_file belong together",
        "brokers[2].cert_file: /nowhere/c does not exist",
    ):  # fmt: skip
        assert said in str(caught.value)


def test_what_the_shape_does_not_show_is_reported_too(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    (tmp_path / "data").touch()
    file.write_text(
        '[coordinator]\ndata_dir = "data"\n[broker]\nca_file = "/nowhere/ca.crt"\ncert_file = "/nowhere/c.crt"\n'
        'password_file = "/nowhere/secret"\npassword_env = "SECRET"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    for said in ("4 mistakes", "is no folder", "one is enough", "belong together", "/nowhere/ca.crt does not exist"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("command", "text", "status", "said"),
    [
        ("check", "[coordinator]\n", 0, "fine"),
        ("check", "[coordinator]\nx = 1\n", 2, "unknown key"),
        ("check", "[platforms]\nenabled = ['retail']\n[platforms.retail]\nstors = 1\n", 2, "did you mean stores?"),
        ("check", "not toml", 2, "is not TOML"),
        ("run", "[coordinator]\nx = 1\n", 2, "unknown key"),
        ("run", "[coordinator]\ndata_dir = '/proc/nowhere'\n", 1, "cannot be used"),
    ],
)
def test_the_command_says_what_is_wrong_without_a_traceback(
    tmp_path: Path, command: str, text: str, status: int, said: str
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", command, "--config", str(file)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_rules_of_the_fleet_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[fleet]\nbusy_below = 0.9\nsteady_below = 3.0\noutage_site_share = 2\n")
    with pytest.raises(ConfigError, match="outage_site_share"):
        load_config(file)
    file.write_text("[fleet]\nbusy_below = 0.9\nsteady_below = 3.0\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert "fleet.busy_below" in str(caught.value) and "fleet.steady_below" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ('backend = "postgres"', "store.dsn: is missing, or store.dsn_file"),
        ('backend = "postgres"\ndsn = "host=a"\ndsn_file = "dsn"', "dsn and dsn_file are both given"),
        ('backend = "postgres"\ndsn = "host=a tops3cret"', "the DSN of the store cannot be read"),
        ('backend = "postgres"\ndsn_file = "absent"', "absent cannot be read"),
        ('backend = "mysql"', "store.backend"),
        ('backend = "postgres"\ndsn = "host=a"\nreaders = 0', "store.readers"),
    ],
)
def test_mistakes_of_the_store_are_named_and_no_password_is(tmp_path: Path, table: str, mistake: str) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text(f"[store]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert mistake in str(caught.value)
    assert "tops3cret" not in str(caught.value)


def test_a_dsn_comes_from_its_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://edge:tops3cret@db/fleet\n")
    path = tmp_path / "coordinator.toml"
    path.write_text('[store]\nbackend = "postgres"\ndsn_file = "dsn"\nreaders = 3\n')
    config = load_config(path)
    assert config.place == PostgresPlace("postgresql://edge:tops3cret@db/fleet", 30.0, 3)
    assert "tops3cret" in config.store.secrets()


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "runtime.postgres", None)
    path = tmp_path / "coordinator.toml"
    path.write_text('[store]\nbackend = "postgres"\ndsn = "host=a"\n')
    with pytest.raises(ConfigError, match=r"edgewright\[coordinator,postgres\]"):
        load_config(path)

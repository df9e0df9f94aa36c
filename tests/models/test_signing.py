"""Keys and signatures: what is verified where, and the commands about them."""

import stat
from pathlib import Path

import pytest

from coordinator.config import load_config
from coordinator.models.release import ModelRefusedError
from coordinator.models.settings import ModelsTable
from coordinator.models.trust import Trust, mistake, read_keys, signed
from coordinator.store.sqlite import SqliteStore
from runtime.ed25519 import KeyRefusedError, make_pair, read_private, read_public
from runtime.errors import ConfigError
from tests.coordinator.process import edgectl
from tests.models.making import make_folder

DIGEST = "ab" * 32


def test_a_pair_is_made_once_and_nobody_else_may_read_the_private_one(tmp_path: Path) -> None:
    private, public = tmp_path / "release.pem", tmp_path / "release.pub"
    made = make_pair(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    with pytest.raises(KeyRefusedError, match="already"):
        make_pair(private, public)
    private.rename(tmp_path / "away")
    with pytest.raises(KeyRefusedError, match=r"release\.pub already"):
        make_pair(private, public)
    assert not private.exists()  # no half of a pair
    key = read_private(tmp_path / "away")
    signature = key.sign(b"data")
    for text in (str(public), public.read_text(), made.public.text):
        assert read_public(text).verifies(signature, b"data")
        assert not read_public(text).verifies(signature, b"date")
    (tmp_path / "away").chmod(0o644)
    with pytest.raises(KeyRefusedError, match="can be read by others"):
        read_private(tmp_path / "away")


@pytest.mark.parametrize(
    "text", ["nowhere.pub", "AAAA", "-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----", ""]
)
def test_what_is_no_key_is_refused_with_what_would_be(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyRefusedError):
        read_public(text, tmp_path)


def test_whose_signature_counts(tmp_path: Path) -> None:
    ours = make_pair(tmp_path / "a.pem", tmp_path / "a.pub")
    other = make_pair(tmp_path / "b.pem", tmp_path / "b.pub")
    keys = read_keys({"a": ours.public.text}, Path())
    right = signed(ours, "a", DIGEST)
    assert mistake(keys, DIGEST, right) == ""
    assert mistake(keys, "cd" * 32, right) == "has a wrong signature of a"
    assert mistake(keys, DIGEST, signed(other, "a", DIGEST)) == "has a wrong signature of a"
    assert mistake(keys, DIGEST, signed(other, "b", DIGEST)) == "is signed by b, and the keys that are trusted are a"

    needs = Trust(ModelsTable(trusted_keys={"a": ours.public.text}, require_signature=True))
    needs.check("finder@1.0.0", DIGEST, "")  # it may be kept,
    with pytest.raises(ModelRefusedError, match="not signed"):
        needs.check("finder@1.0.0", DIGEST, "", to_give=True)  # and is given to nobody
    needs.check("finder@1.0.0", DIGEST, right, to_give=True)
    with pytest.raises(ModelRefusedError, match="wrong signature"):
        needs.check("finder@1.0.0", DIGEST, signed(other, "a", DIGEST))
    Trust(ModelsTable()).check("finder@1.0.0", DIGEST, signed(other, "b", DIGEST), to_give=True)  # the form alone


def test_keys_are_read_with_the_configuration_and_every_mistake_is_told(tmp_path: Path) -> None:
    made = make_pair(tmp_path / "a.pem", tmp_path / "a.pub")
    path = tmp_path / "coordinator.toml"
    path.write_text("[models]\nrequire_signature = true\ntrusted_keys = { a = 'a.pub' }\n")
    assert load_config(path).models.trusted_keys == {"a": made.public.text}
    path.write_text("[models]\ntrusted_keys = { a = 'b.pub', 'c d' = 'xx' }\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert "models.trusted_keys.a: cannot read" in str(refused.value) and "'c d' must be" in str(refused.value)
    path.write_text("[models]\nrequire_signature = true\n")
    with pytest.raises(ConfigError, match="name the keys whose signatures count"):
        load_config(path)


def test_signed_and_verified_from_the_command_line(tmp_path: Path) -> None:
    data, key = tmp_path / "data", tmp_path / "release.pem"
    data.mkdir()
    SqliteStore(data).close()
    config = tmp_path / "coordinator.toml"
    folder = make_folder(tmp_path / "bundle")

    def model(*words: str, status: int = 0, where: tuple[str, ...] = ("--data-dir", str(data))) -> str:
        done = edgectl([*where, "model", *words])
        assert done.returncode == status, done
        return done.stderr if status > 1 or not done.stdout else done.stdout

    assert "release.pub: its public key" in model("keygen", str(key))
    assert "already" in model("keygen", str(key), status=1)
    public = str(tmp_path / "release.pub")
    config.write_text(f"[coordinator]\ndata_dir = 'data'\n[models]\ntrusted_keys = {{ release = '{public}' }}\n")
    by_config = ("--config", str(config))
    assert "is not signed" in model("verify-signature", str(folder), "--key", public, status=1)
    assert "finder@1.0.0 is signed by release" in model("sign", str(folder), "--key", str(key))
    assert "is right" in model("verify-signature", str(folder), where=by_config)
    model("add", str(folder), where=by_config)
    assert "by release, verified" in model("show", "finder", where=by_config)
    assert "not checked" in model("show", "finder")
    model("sign", "finder@1.0.0", "--key", str(key), "--name", "night")
    assert "is signed by night" in model("verify-signature", "finder@1.0.0", status=1, where=by_config)
    assert "night is right" in model("verify-signature", "finder@1.0.0", "--key", public)
    assert "signed by night" in model("show", "finder")
    assert "which keys are trusted?" in model("verify-signature", "finder@1.0.0", status=2)
    assert "which version?" in model("sign", "finder", "--key", str(key), status=2)
    (folder / "labels.txt").write_text("pore\ncrack\nburn\n")  # other bytes under the old signature
    assert "wrong signature of release" in model("verify-signature", str(folder), "--key", public, status=1)
    assert "wrong signature of release" in model("add", str(folder), status=1, where=by_config)

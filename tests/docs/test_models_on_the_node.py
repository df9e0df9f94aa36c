"""docs/models.md, "On the node": its commands do what it says."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.models.cache import Cache
from coordinator.models.folder import read_folder
from schemas.fields import Owner, mistakes
from schemas.release import digest_of
from tests.agent_process.agents import ROOT
from tests.node_models.world import WELD, weld_bundle

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").partition("## On the node")[2]


def commands(program: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(program)]
    return [shlex.split(line.replace("DIGEST", "ab" * 32), comments=True)[1:] for line in lines]


@dataclass(frozen=True, slots=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Here:
    """`edge-agent ...` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Done:
        status = main(list(words))
        said = self._capsys.readouterr()
        return Done(status, said.out, said.err)


@pytest.fixture
def run_agent(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


def test_the_fields_are_set_as_the_page_says() -> None:
    wishes = [words[3] for words in commands("edgectl") if words[:2] == ["desired", "set"]]
    assert len(wishes) == 2
    for wish in wishes:
        path, _, value = wish.partition("=")
        assert mistakes({path: json.loads(value)}, Owner.COORDINATOR) == []


def test_what_lies_on_a_node_is_shown_verified_and_removed(tmp_path: Path, run_agent: Here) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[node]\nid = "gw-1"\ndata_dir = "data"\n')
    made = read_folder(weld_bundle(tmp_path / "b", "1.3.0", golden=False))
    cache = Cache(tmp_path / "data" / "models")
    for file in made.release.files:
        part = cache.part(file.sha256)
        part.append((made.folder / file.path).read_bytes())
        assert part.finish()
    document = made.document.replace(b"weld_defects", b"finder")
    cache.keep_release(digest_of(document), document, "", {file.path: file.sha256 for file in made.release.files})
    said = []
    for words in commands("edge-agent"):
        if words[0] == "models":
            done = run_agent(*(str(config) if word == "agent.toml" else word for word in words))
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    assert "finder@1.3.0" in said[0] and "sound" in said[1] and "removed finder@1.3.0" in said[2]
    assert cache.releases() == [] and not list(cache.folder.glob("blobs/*/*"))


def test_golden_frames_are_made_as_the_page_says(tmp_path: Path, run_agent: Here) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copyfile(WELD / "golden.jpg", pictures / "seam.jpg")
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"seam.jpg": [{"class": "pore", "box": [10, 10, 60, 60]}]}))
    places = {
        "pictures": str(pictures), "truth.json": str(truth), "bundles/finder_float": str(WELD),
    }  # fmt: skip
    made = [words for words in commands("edge-agent") if words[:2] == ["model", "golden"]]
    assert len(made) == 2
    for n, (words, share) in enumerate(zip(made, ("1.000", "0.000"), strict=True)):
        folder = weld_bundle(tmp_path / f"b{n}", "2.0.0", golden=False)
        done = run_agent(*(places.get(word, word).replace("bundles/finder", str(folder)) for word in words))
        assert done.returncode == 0, done.stderr
        assert "1 golden frames" in done.stdout and f"accuracy of {share} on them" in done.stdout
        assert read_folder(folder).release.golden
    again = run_agent("model", "golden", str(folder), "--images", str(pictures))
    assert again.returncode == 2 and "has golden frames already" in again.stderr


def test_bad_truth_is_told_with_all_its_mistakes(tmp_path: Path, run_agent: Here) -> None:
    folder = weld_bundle(tmp_path / "b", "2.0.0", golden=False)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        shutil.copyfile(WELD / "golden.jpg", pictures / name)
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"a.jpg": [{"class": "unicorn", "box": [1, 2, 3, 4]}], "b.jpg": [{"box": [1, 2]}]}))
    done = run_agent("model", "golden", str(folder), "--images", str(pictures), "--truth", str(truth))
    assert done.returncode == 1
    for said in ("a.jpg: 'unicorn' is no label", "b.jpg: ", "c.jpg: nothing is said of it"):
        assert said in done.stderr
    assert not (folder / "golden.toml").exists()

"""From a folder of pictures to a bundle: what it finds, what it says of bad folders, and what is added later."""

import json
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.__main__ import main
from agent.anomaly.gaussian import distances
from agent.anomaly.gaussian import fit as fit_gaussians
from agent.capture.images import read_picture
from agent.infer.bundle_files import load_bundle
from agent.infer.engine import ModelError
from agent.infer.fitting import Fitted, fit
from agent.infer.graph.flatbuffer import Graph
from agent.infer.litert import LiteRtEngine
from agent.infer.preprocess import Placement
from agent.teach.backbone import open_backbone, pick_layers, stacked_features
from agent.teach.pictures import load_pictures
from agent.teach.teaching import TeachSettings, load_record, shaping_for, teach, teach_more
from schemas.bundles import read_bundle
from tests.anomaly.parts import HEIGHT, SPOT, WIDTH, folder_of, part, write
from tests.assets import ASSETS, needs_assets

OURS = Path(__file__).resolve().parents[2] / "platforms" / "manufacturing" / "models" / "weld_defects"


class Taught:
    """A bundle with its engine open."""

    def __init__(self, folder: Path) -> None:
        self.bundle = load_bundle(folder)
        self.engine = LiteRtEngine.open(self.bundle.variants[0].path, warmup_runs=0)
        self.fitted: Fitted = fit(self.bundle, self.engine.input, self.engine.outputs)

    def find(self, path: Path):  # type: ignore[no-untyped-def]
        picture = read_picture(path)
        tensor, placement = self.fitted.preprocessor.prepare(picture)
        outputs = self.engine.infer(tensor)
        return self.fitted.decoder.decode(outputs, placement, picture.width, picture.height)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("good") / "good", range(30))


@pytest.fixture(scope="module")
def bundle(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "bundle"
    teach(good, folder, OURS, camera="cam1")
    return folder


@pytest.fixture(scope="module")
def taught(bundle: Path) -> Iterator[Taught]:
    one = Taught(bundle)
    yield one
    one.engine.close()


def test_good_parts_pass_and_a_defect_is_found_where_it_is(taught: Taught, tmp_path: Path) -> None:
    passed = [taught.find(write(tmp_path / f"{n}.jpg", part(n))) for n in range(100, 120)]
    assert sum(len(found) > 0 for found in passed) <= 1
    found = taught.find(write(tmp_path / "bad.jpg", part(200, defect=True)))
    x0, y0, x1, y1 = found.xyxy[0]
    assert x0 < SPOT[2] and SPOT[0] < x1 and y0 < SPOT[3] and SPOT[1] < y1
    assert found.confidence[0] > 0.5
    assert found.heat is not None
    row, column = np.unravel_index(found.heat.map.argmax(), found.heat.map.shape)
    rows, columns = found.heat.map.shape
    assert SPOT[0] - 20 < (column + 0.5) / columns * WIDTH < SPOT[2] + 20
    assert SPOT[1] - 20 < (row + 0.5) / rows * HEIGHT < SPOT[3] + 20
    assert found.heat.score > 1 > max(one.heat.score for one in passed if one.heat and not len(one))


def test_the_graph_computes_what_the_statistic_says(good: Path, bundle: Path, taught: Taught, tmp_path: Path) -> None:
    source = open_backbone(OURS)
    graph = Graph.load(source.path)
    chosen = pick_layers(graph, (), source)
    pictures = load_pictures(bundle / "taught.npz").array()
    record = load_record(bundle)
    grid = (record.rows, record.columns)
    _, raw = stacked_features(graph, chosen, source.rule, pictures, tmp_path / "f.tflite", grid, 1)
    features = shaping_for(raw, record.features_max).apply(raw)
    wanted = distances(features[:3], fit_gaussians(features)).reshape(3, *grid)
    for n in range(3):
        tensor, _ = taught.fitted.preprocessor.prepare(read_picture(good / f"part{n:03}.jpg"))
        (heat,) = taught.engine.infer(tensor)
        np.testing.assert_allclose(np.sqrt(heat[0]), wanted[n], rtol=0.02, atol=0.05)


def test_what_is_in_the_bundle_is_what_a_node_needs(bundle: Path) -> None:
    assert {file.name for file in bundle.iterdir()} == {
        "bundle.toml", "labels.txt", "cam1-anomaly-1.tflite", "taught.npz", "taught.json",
    }  # fmt: skip
    made = load_bundle(bundle)
    assert (made.name, made.labels, made.output.decoder) == ("cam1-anomaly", ("anomaly",), "anomaly")
    registered = read_bundle(tomllib.loads((bundle / "bundle.toml").read_text()))
    assert registered.variants[0].file == "cam1-anomaly-1.tflite"
    assert json.loads((bundle / "taught.json").read_text())["pictures"] == 30


def test_a_stricter_confidence_asks_for_more(bundle: Path, taught: Taught, tmp_path: Path) -> None:
    from dataclasses import replace

    found = taught.find(write(tmp_path / "bad.jpg", part(200, defect=True)))
    sure = float(found.confidence[0])
    strict = replace(taught.bundle, thresholds=replace(taught.bundle.thresholds, confidence=min(0.9999, sure + 1e-5)))
    decoder = fit(strict, taught.engine.input, taught.engine.outputs).decoder
    tensor, placement = taught.fitted.preprocessor.prepare(read_picture(tmp_path / "bad.jpg"))
    again = decoder.decode(taught.engine.infer(tensor), placement, WIDTH, HEIGHT)
    assert len(again) == 0 or sure > 0.9999
    assert again.heat is not None


def test_a_map_of_no_numbers_finds_nothing(taught: Taught) -> None:
    shape = taught.engine.outputs[0].shape
    found = taught.fitted.decoder.decode([np.full(shape, np.nan, np.float32)], Placement(1, 1), 64, 64)
    assert len(found) == 0
    assert found.heat is None


def test_a_defect_among_the_good_ones_is_named_and_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "good", range(30), bad=frozenset({17}))
    lesson = teach(folder, tmp_path / "b", OURS, camera="cam1")
    assert lesson.record.outliers[0] == "part017.jpg"
    assert lesson.record.pictures == 30 - len(lesson.record.outliers)
    assert any(note.startswith("part017.jpg does not look like the others and was left out") for note in lesson.notes)
    kept = teach(folder, tmp_path / "k", OURS, camera="cam1", settings=TeachSettings(keep_outliers=True))
    assert kept.record.pictures == 30
    assert kept.record.threshold > lesson.record.threshold


def test_a_folder_with_odd_files_teaches_with_the_rest(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "good", range(8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("of no concern")
    shutil.copy(folder / "part003.jpg", folder / "copy.jpg")
    write(folder / "wide.jpg", np.concatenate([part(50), part(50)], axis=1))
    lesson = teach(folder, tmp_path / "b", OURS, settings=TeachSettings(keep_outliers=True))
    said = "\n".join(lesson.notes)
    assert "broken.jpg was left out" in said
    assert "part003.jpg was left out: the same picture is there already" in said
    assert "2 sizes" in said
    assert "9 pictures are few" in said
    assert lesson.record.pictures == 9


@pytest.mark.parametrize(
    ("pictures", "said"), [(0, "there is no picture in"), (4, "4 pictures are too few to teach")]
)
def test_a_folder_with_too_little_is_refused_and_nothing_is_left(pictures: int, said: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "good", range(pictures))
    with pytest.raises(ModelError, match=said):
        teach(folder, tmp_path / "b", OURS)
    assert not (tmp_path / "b").exists()


def test_what_is_given_is_checked(good: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds a bundle already"):
        teach(good, bundle, OURS)
    with pytest.raises(ModelError, match="cannot be listed"):
        teach(tmp_path / "nowhere", tmp_path / "b", OURS)
    with pytest.raises(ModelError, match="has no layer 'nothing'"):
        teach(good, tmp_path / "b", OURS, settings=TeachSettings(layers=("nothing",)))
    with pytest.raises(ModelError, match=r"no readable taught\.json"):
        teach_more(good, OURS)


def test_more_good_pictures_make_another_light_usual(bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    dim = tmp_path / "dim"
    dim.mkdir()
    for n in range(300, 330):
        write(dim / f"dim{n}.jpg", part(n, light=0.8))
    shown = write(tmp_path / "new.jpg", part(400, light=0.8))
    before = Taught(mine)
    was = before.find(shown).heat
    before.engine.close()
    lesson = teach_more(dim, mine, TeachSettings(keep_outliers=True))
    assert (lesson.added, lesson.record.pictures) == (30, 60)
    assert lesson.record.layers == load_record(bundle).layers
    after = Taught(mine)
    now = after.find(shown).heat
    bad = after.find(write(tmp_path / "bad.jpg", part(401, defect=True)))
    after.engine.close()
    assert was is not None and now is not None
    assert was.score > 1 > now.score
    assert len(bad) > 0
    assert after.bundle.version == "2"
    assert {file.name for file in mine.glob("*.tflite")} == {"cam1-anomaly-2.tflite"}
    with pytest.raises(ModelError, match="adds nothing"):
        teach_more(dim, mine)


def test_a_region_of_interest_is_all_that_is_seen(good: Path, tmp_path: Path) -> None:
    teach(good, tmp_path / "b", OURS, roi=(0.5, 0.0, 1.0, 0.75))
    taught = Taught(tmp_path / "b")
    found = taught.find(write(tmp_path / "bad.jpg", part(200, defect=True)))
    assert found.heat is not None
    assert found.heat.xyxy == pytest.approx((WIDTH / 2, 0, WIDTH, HEIGHT * 0.75), abs=1)
    x0, y0, x1, y1 = found.xyxy[0]
    assert x0 < SPOT[2] and SPOT[0] < x1 and y0 < SPOT[3] and SPOT[1] < y1
    outside = part(201)
    outside[20:60, 20:60] = 255
    assert len(taught.find(write(tmp_path / "outside.jpg", outside))) == 0
    taught.engine.close()


def test_the_command_says_what_was_taught(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bundle"
    command = ["teach", "--camera", "cam1", "-o", str(out), "--backbone", str(OURS)]
    assert main([*command, "--good", str(good), "--false-alarms", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "model cam1-anomaly, taught with 30 pictures" in said
    assert "about 5.0% will be called anomalous" in said
    assert main([*command, "--good", str(good)]) == 1
    assert "holds a bundle already" in capsys.readouterr().err
    for more, wrong in (
        (["--good", str(good), "--roi", "1,2"], "four numbers are wanted"),
        (["--good", str(good), "--roi", "0.5,0,0.4,1"], "each side at least"),
        (["--good", str(good), "--false-alarms", "2"], "a rate above 0"),
        (["--add", str(good)], "are those of the bundle"),
    ):
        assert main([*command, *more]) == 2
        assert wrong in capsys.readouterr().err


def test_without_a_backbone_ours_is_taken(good: Path, tmp_path: Path) -> None:
    lesson = teach(good, tmp_path / "b", camera="cam1")
    assert (lesson.record.backbone, lesson.record.layers) == ("textures", ("textures/features",))
    taught = Taught(tmp_path / "b")
    passed = [taught.find(write(tmp_path / f"{n}.jpg", part(n))) for n in range(100, 110)]
    found = taught.find(write(tmp_path / "bad.jpg", part(200, defect=True)))
    taught.engine.close()
    assert sum(len(one) > 0 for one in passed) <= 1
    x0, y0, x1, y1 = found.xyxy[0]
    assert x0 < SPOT[2] and SPOT[0] < x1 and y0 < SPOT[3] and SPOT[1] < y1
    more = teach_more(folder_of(tmp_path / "more", range(40, 45)), tmp_path / "b")
    assert more.record.pictures == 35 - len(more.record.outliers)


@needs_assets
def test_magnetic_tiles_are_told_apart_with_a_real_backbone(tmp_path: Path) -> None:
    tiles = ASSETS / "inspection" / "magnetic_tile"
    good = tmp_path / "good"
    good.mkdir()
    for file in sorted((tiles / "teach_good").iterdir())[:80]:
        shutil.copy(file, good)
    lesson = teach(good, tmp_path / "b", ASSETS / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    assert lesson.record.layers == ("MobilenetV2/expanded_conv_12/add",)
    taught = Taught(tmp_path / "b")
    scores = []
    for folder in ("test_good", "test_defect/break"):
        files = sorted(file for file in (tiles / folder).iterdir() if file.suffix in (".jpg", ".png"))[:30]
        found = [taught.find(file).heat for file in files]
        scores.append(np.array([heat.score for heat in found if heat is not None]))
    taught.engine.close()
    assert (scores[1][:, None] > scores[0]).mean() > 0.8

"""The judge of real digits: how good it is, what its figures tell apart, and its cache in the run folder."""

import fcntl
import logging
from dataclasses import replace

import numpy as np
import pytest

from scratchgen.data import DataError, Dataset, digits
from scratchgen.metrics import Reference, nearest, quality, table
from scratchgen.metrics.quality import FLOOR, NORMAL, UNIFORM
from scratchgen.random import Generator
from scratchgen.recipes import judge as module
from scratchgen.recipes.judge import FILE, judge
from scratchgen.train import RunError

DIGITS = digits()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The judge, trained by the first process that asks for it; the others wait, and load what it left."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-gw") else base) / "judge"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return judge(folder, progress=False)


@pytest.fixture
def quick(monkeypatch):
    """A judge of three steps, and the list of the trainings there were."""
    calls = []
    train = module.train
    monkeypatch.setattr(module, "TRAINING", replace(module.TRAINING, steps=3))
    monkeypatch.setattr(module, "train", lambda *args, **kw: calls.append(kw["name"]) or train(*args, **kw))
    return calls


def weights(classifier):
    return {name: array.tobytes() for name, array in classifier.state_dict().items()}


# --- the judge at work --------------------------------------------------------------------------------------


def test_it_knows_held_out_digits(trained):
    assert trained.accuracy(DIGITS.heldout, DIGITS.heldout_labels) >= 0.97
    wrong = np.random.default_rng(0).permutation(DIGITS.heldout_labels)
    assert trained.accuracy(DIGITS.heldout, wrong) < 0.2


def test_360_images_determine_the_covariance_of_its_features(trained):
    values = np.linalg.eigvalsh(np.cov(trained.features(DIGITS.heldout), rowvar=False))
    assert values[0] > 0
    assert values[-1] / values[0] < 5000


def test_the_table_of_real_digits(trained):
    """Floor and ceilings lie far apart in every column, and a little noise lies between."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(DIGITS.heldout.shape)
    noisy = np.clip(DIGITS.heldout + 0.3 * noise, -1, 1).astype(np.float32)
    found = table({"noisy": noisy}, DIGITS.train, DIGITS.heldout, trained, rng=Generator(0))
    by_name = {row.name: row.mean for row in found}
    floor, noisy = by_name[FLOOR], by_name["noisy"]
    assert {row.n for row in found} == {360}
    assert floor.precision > 0.8
    assert floor.recall > 0.85
    assert floor.score > 9
    assert floor.frechet < noisy.frechet / 3
    assert noisy.precision < floor.precision
    for ceiling in (by_name[NORMAL], by_name[UNIFORM]):
        assert ceiling.frechet > max(50 * floor.frechet, 5 * noisy.frechet)
        assert max(ceiling.precision, ceiling.recall) < 0.15
        assert ceiling.score < 6


def test_missing_classes_and_blends_are_found(trained):
    reference = Reference(DIGITS.train, trained)
    floor = reference.quality(DIGITS.heldout)
    some = DIGITS.train[DIGITS.train_labels < 3][:360]
    few_classes = reference.quality(some)
    assert few_classes.frechet > 20 * floor.frechet
    assert few_classes.precision > 0.9
    assert few_classes.recall < 0.5
    assert few_classes.score < 3.5
    blends = reference.quality((DIGITS.heldout + DIGITS.heldout[::-1]) / 2)
    assert blends.frechet > 5 * floor.frechet
    assert blends.precision < floor.precision - 0.2


def test_samples_of_the_training_set_are_good_and_are_copies(trained):
    copies = DIGITS.train[::3][:360]
    assert quality(copies, DIGITS.train, trained).precision == 1
    assert nearest(copies, DIGITS.train).distance.max() == 0
    assert nearest(DIGITS.heldout, DIGITS.train).distance.min() > 0


# --- its cache ----------------------------------------------------------------------------------------------


def test_it_is_trained_once(tmp_path, quick, caplog):
    first = judge(tmp_path, progress=False)
    content = (tmp_path / FILE).read_bytes()
    second = judge(str(tmp_path), progress=False)
    assert quick == ["judge"]
    assert weights(first) == weights(second)
    assert (tmp_path / FILE).read_bytes() == content
    assert not caplog.records
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_it_is_the_same_in_every_folder(tmp_path, quick):
    (tmp_path / "other").mkdir()
    assert weights(judge(tmp_path, progress=False)) == weights(judge(tmp_path / "other", progress=False))
    assert quick == ["judge", "judge"]


DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "foreign": lambda data: b"not a judge at all" * 10,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_trained_anew_with_one_line(tmp_path, quick, caplog, damage):
    good, path = weights(judge(tmp_path, progress=False)), tmp_path / FILE
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    with caplog.at_level(logging.WARNING):
        assert weights(judge(tmp_path, progress=False)) == good
    (record,) = caplog.records
    message = record.getMessage()
    assert "\n" not in message
    assert str(path) in message
    assert "trained anew" in message
    assert path.read_bytes() == content
    assert quick == ["judge"] * 2


def test_a_folder_in_the_caches_place_is_no_crash(tmp_path, quick, caplog):
    (tmp_path / FILE).mkdir()
    judge(tmp_path, progress=False)
    assert ["anew" in caplog.messages[0], "next time" in caplog.messages[1]] == [True, True]


def test_a_cache_of_other_data_or_training_is_not_used(tmp_path, quick, caplog, monkeypatch):
    judge(tmp_path, progress=False)
    turned = Dataset("turned", DIGITS.train[:, ::-1].copy(), DIGITS.heldout, DIGITS.train_labels)
    judge(tmp_path, progress=False, dataset=turned)
    judge(tmp_path, progress=False, dataset=turned)
    monkeypatch.setattr(module, "TRAINING", replace(module.TRAINING, lr=1e-3))
    judge(tmp_path, progress=False, dataset=turned)
    assert len(quick) == 3
    assert ["other data or another training" in message for message in caplog.messages] == [True, True]


def test_weights_that_do_not_fit_are_not_used(tmp_path, quick, caplog):
    classifier, path = judge(tmp_path, progress=False), tmp_path / FILE
    arrays, meta = module.checkpoint.load(path)
    arrays.pop("last.w")
    module.checkpoint.save(path, arrays, meta)
    assert weights(judge(tmp_path, progress=False)) == weights(classifier)
    assert "does not fit" in caplog.messages[0]


def test_what_cannot_be_judged(tmp_path, quick):
    with pytest.raises(RunError, match="absent: is not a folder"):
        judge(tmp_path / "absent")
    toy = Dataset("toy", np.zeros((90, 2), np.float32), np.zeros((9, 2), np.float32))
    with pytest.raises(DataError, match="toy: a judge needs labelled images"):
        judge(tmp_path, dataset=toy)
    assert not quick

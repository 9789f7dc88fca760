"""GPT from the command line, for a few steps: trained, judged, drawn, and writing."""

import re

import numpy as np
import pytest
from PIL import Image

from scratchgen import cli, data
from scratchgen.backend import active
from scratchgen.data import text
from scratchgen.recipes import RECIPES
from scratchgen.recipes import gpt as recipe
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train import RunFolder
from scratchgen.train.metrics_log import read


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "gpt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "LENGTH", 30)
        dataset = data.load("topics")
        few = data.Dataset("topics", dataset.train[:40], dataset.heldout[:5], alphabet=dataset.alphabet)
        patch.setattr(data, "load", lambda *_: few)
        assert cli.run(["train", "gpt", "--steps", "3", "--out", str(path)]) == 0
        yield path


def test_a_run_from_begin_to_end(run, capsys):
    page = (run / "index.html").read_text(encoding="utf-8")
    names = {"codes.png", "shaded.png", "places.png", "loss.png"}
    assert {file.name for file in (run / "pictures").iterdir()} >= names
    for name in names:
        assert f"pictures/{name}" in page
        with Image.open(run / "pictures" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, name
    for said in ("bits per character, held out", "5-gram", "gzip after the training text", "SHA-256",
                 "Written at temperature 0.7", "──── 3 of 3 ────"):  # fmt: skip
        assert said in page
    samples = (run / "samples.txt").read_text(encoding="utf-8")
    assert samples.count("────\n") == 9
    assert len(read(run / "metrics.csv")["loss"]) == 1
    assert cli.run(["report", str(run)]) == 0
    assert (run / "index.html").read_text(encoding="utf-8") == page


def test_training_is_replayed(tmp_path, capsys):
    assert cli.run(["train", "gpt", "--steps", "3", "--no-report", "--out", str(tmp_path / "a")]) == 0
    assert "without replay" not in capsys.readouterr().err


def test_it_writes_as_it_is_asked_to(run, tmp_path, capsys):
    def drawn(*options):
        assert cli.run(["sample", str(run), "-n", "2", "--out", str(tmp_path / "x.txt"), *options]) == 0
        return (tmp_path / "x.txt").read_text(encoding="utf-8")

    plain = drawn()
    assert plain == drawn() != drawn("--seed", "5")
    assert plain.startswith("──── 1 of 2 ────\n")
    assert drawn("--prompt", "class A:").count("class A:") == 2
    assert len({plain, drawn("--temperature", "0.01"), drawn("--top-k", "3")}) == 3
    _, first, second = re.split("──── . of 2 ────\n", drawn("--temperature", "0", "--prompt", "x"))
    assert first == second
    assert re.split("──── . of 2 ────\n", drawn("--top-k", "1", "--prompt", "x"))[1] == first
    assert cli.run(["sample", str(run), "-n", "1"]) == 0
    assert (run / "pictures" / "drawn.txt").is_file()
    capsys.readouterr()
    for wrong, said in ((["--prompt", "日"], "'日' is not in the alphabet"), (["--steps", "3"], "no sampling option"),
                        (["--out", str(tmp_path / "x.png")], "must end in .txt")):  # fmt: skip
        assert cli.run(["sample", str(run), *wrong]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_data_that_is_no_text_is_refused():
    with pytest.raises(RecipeError, match=r"needs a text; moons has examples of shape \(2,\)"):
        RECIPES["gpt"].configure(data.toys.toy("moons"))


def test_examples_are_windows_of_the_text():
    dataset = data.load("topics")
    found, whole = RECIPES["gpt"].examples(dataset), text.decode(dataset.train.ravel())
    assert found.shape[1] == 65
    for i in (0, 7, len(found) - 1):
        assert text.decode(found[i]) == whole[16 * i : 16 * i + 65]
    assert 16 * len(found) > len(whole) - 65


def test_bits_by_place_and_by_symbol_are_of_one_network(run):
    """The first window's bits are those of its places; a table counts the text's own characters."""
    trained = RECIPES["gpt"].load(RunFolder.open(run))
    symbols = trained.dataset.heldout.ravel()[:65]
    np.testing.assert_allclose(recipe.by_place(trained.system, symbols),
                               trained.system.bits(active().asarray(symbols)), atol=1e-5)  # fmt: skip
    found = RECIPES["gpt"].evaluate(trained, thorough=True)
    bits = found.numbers["bits"]
    assert [n for n, _ in bits["ngrams"]] == [1, 2, 3, 5, 7]
    assert bits["held"] == trained.dataset.heldout.size
    assert len(found.arrays["heldout"]) == bits["held"] - 1
    assert 0 < bits["error"] < 0.5

"""Every kind of model folder that cannot be loaded is one sentence and exit code 2, of a dry run too."""

from importlib.util import find_spec

import pytest

from .broken import KINDS, call, judged, spoilt

TRIAL = find_spec("instructedit.editors.trial") is not None


@pytest.mark.parametrize("broken", KINDS, ids=lambda broken: f"{broken.group}: {broken.name}")
def test_it_is_one_sentence_that_says_what_to_do(broken, tmp_path):
    if not broken.dry and not TRIAL:
        pytest.skip("weights are looked through by the trial of a loaded model")
    place = spoilt(broken, tmp_path / "model")
    said = {}
    for words in ((), ("--dry-run",)) if broken.dry else ((),):
        code, text, crashed = call(place, tmp_path / "out", *broken.words, *words)
        assert judged(broken, code, text, crashed) == "clear", text
        lines = text.strip().splitlines()
        assert [line.startswith("instructedit: ") for line in lines] == [True], text
        if broken.group not in ("device", "package", "own code"):
            assert place.rstrip("/.") in lines[-1]
        said[words] = lines[-1].replace("It would be refused. ", "")
    assert len(set(said.values())) == 1
    assert not (tmp_path / "out").exists()

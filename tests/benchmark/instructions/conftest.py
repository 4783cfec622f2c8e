import pytest

from instructedit.editors import LanguageModel

from ..worlds import write_data, write_model, write_training
from .worlds import loop_in as loop_in
from .worlds import make_loop as make_loop


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("construct")
    write_training(write_data(folder / "data"), counterfact=12, recent=6, convsent=30, zsre=6)
    write_model(folder / "model", "llama")  # whose context takes instructions of the length of real ones
    return folder


@pytest.fixture(scope="session")
def loaded(place):
    return LanguageModel.load(str(place / "model"), device="cpu")

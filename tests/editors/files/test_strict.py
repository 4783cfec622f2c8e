"""Options are taken as they are written, or refused with the key that is wrong."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from instructedit.editors.files.strict import complaint, validated


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lr: float = 0.1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    steps: int = 3
    rate: float = 0.5
    on: bool = False
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    clamp: Annotated[float, Field(gt=0)] | Literal[False] = 1.0
    limits: Annotated[int, Field(ge=1)] | dict[str, Annotated[int, Field(ge=1)]] | None = None


def refused(**options):
    with pytest.raises(ValidationError) as error:
        validated(Outer, options)
    return complaint(error.value, Outer, options)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("steps", value) for value in (True, "3", 3.5, 3.0, [3], {"a": 3})],
        *[("rate", value) for value in (True, "0.5", float("nan"), float("inf"))],
        *[("on", value) for value in (1, 0, "true", "yes")],
        *[("names", value) for value in ("abc", [1], {"a": "b"})],
        ("clamp", True),
        ("limits", True),
    ],
)
def test_nothing_is_converted(key, value):
    found = refused(**{key: value})
    assert found.key.split(".")[0] == key and not found.unknown
    assert "found " in found.text


def test_what_is_written_is_taken():
    options = {
        "steps": 4,
        "rate": 1,
        "on": True,
        "names": ["a"],
        "inner": {"lr": 2},
        "clamp": False,
        "limits": {"a": 2},
    }
    found = validated(Outer, options)
    assert (found.steps, found.rate, found.on, found.names, found.inner.lr) == (4, 1.0, True, ("a",), 2.0)
    assert found.clamp is False
    assert found.limits == {"a": 2}
    assert found.model_fields_set == set(options)
    assert validated(Outer, {"names": ("a", "b"), "rate": 0.1 + 0.2}).rate == 0.1 + 0.2


def test_the_innermost_key_is_named():
    assert refused(inner={"lr": "x"}).key == "inner.lr"
    assert refused(limits={"recent": 0}).key == "limits.recent"
    assert refused(names=["a", 3]).key == "names.1"
    unknown = refused(inner={"lrr": 1})
    assert (unknown.key, unknown.unknown) == ("inner.lrr", True)
    assert unknown.text.startswith(" Did you mean 'lr'?")
    assert refused(step=1).text.startswith(" Did you mean 'steps'?")

"""The in-context edit: a text, and no change of the model."""

import pytest

from instructedit.baselines.incontext import InContext, InContextConfig
from instructedit.editors import CaseError, EditRequest, InputError, make

REQUESTS = [
    EditRequest("t/test/0", "t", "The spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
    EditRequest("t/test/1", "t", "Where was Alan Turing born?", "King", "Alan Turing"),
]
TEXTS = ["New fact: The spouse of Ada Lovelace is Grace Hopper\n", "New fact: Where was Alan Turing born? King\n"]


def test_the_fact_stands_in_front_of_every_question(model):
    edits = InContext().edit(model, REQUESTS)
    assert [context.text for context in edits.contexts] == TEXTS
    assert edits.patches == ((), ())
    for role in ("reliability", "generalization", "portability", "locality", "fluency"):
        assert [context.prompt_prefix(role) for context in edits.contexts] == TEXTS


def test_all_facts_stand_one_a_line(make_language_model):
    edits = InContext().edit_together(make_language_model("llama"), REQUESTS)
    assert [context.text for context in edits.contexts] == ["".join(TEXTS)]


def test_template_and_roles_are_options(model):
    options = {"template": "{target}: {prompt} ", "roles": ["reliability", "fluency"]}
    (context,) = make(InContext, options).edit(model, REQUESTS[:1]).contexts
    assert context.prompt_prefix("fluency") == "Grace Hopper: The spouse of Ada Lovelace is "
    assert context.prompt_prefix("locality") == ""


@pytest.mark.parametrize(
    "template", ["New fact.", "{prompt}", "{prompt} {target} {subject}", "{prompt.x} {target}", "{"]
)
def test_a_template_without_its_places_is_refused(template):
    with pytest.raises(InputError, match="Option 'template' of the editor 'in-context'"):
        make(InContext, {"template": template})


def test_what_leaves_no_room_for_its_question_is_refused(model):
    """Prompt and target alone fit, the fact and its question do not."""
    long = EditRequest("t/test/2", "t", "The name of Ada is", "x" * 45, "Ada")
    model.encode(long.prompt, long.target)
    with pytest.raises(CaseError, match="context is 96"):
        InContext().edit(model, [long])
    with pytest.raises(CaseError, match=r"'in-context' puts all 9 facts before a prompt: .* context is 96"):
        InContext(InContextConfig()).edit_together(model, REQUESTS[:1] * 9)

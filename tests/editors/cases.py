"""Training cases over the words of the tests' tokenizer."""

from instructedit.editors import EditCase, EditRequest, Probe

PEOPLE = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "Katherine Johnson", "William King", "Maida Vale")
TARGETS = ("William King", "London", "rear admiral", "United States", "Katherine", "scientist", "Hopper")


def fact(number: int, split: str = "train", task: str = "facts") -> EditCase:
    """A fact with a rephrase and two locality probes."""
    who = PEOPLE[number % len(PEOPLE)]
    target = TARGETS[number % len(TARGETS)]
    request = EditRequest(f"{task}/{split}/{number}", task, f"The name of the spouse of {who} is", target, who)
    return EditCase(
        request,
        (
            Probe("reliability", "edit", request.prompt, (target,)),
            Probe("generalization", "rephrase", f"What is the name of the spouse of {who}?", (target,)),
            Probe("locality", "Relation_Specificity", f"The place of birth of {who} is", ("London",)),
            Probe("locality", "Relation_Specificity", f"The occupation of {who} is", ("computer scientist",)),
            Probe("portability", "Reasoning", f"The country of the spouse of {who} is", ("the United States",)),
        ),
    )


def attitude(number: int, split: str = "train", task: str = "opinions") -> EditCase:
    """An attitude with replies of both sentiments."""
    who = PEOPLE[number % len(PEOPLE)]
    request = EditRequest(
        f"{task}/{split}/{number}", task, f"What is {who}?", "rear admiral", who, sentiment="positive"
    )
    return EditCase(
        request,
        (
            Probe("reliability", "edit", request.prompt, ("rear admiral",)),
            Probe(
                "reliability", "sentiment", request.prompt, ("computer scientist", "admiral"), False, ("King", "Vale")
            ),
            Probe("locality", "Other_Topic", "What is London?", ("the place of birth",)),
        ),
    )


def facts(count: int, split: str = "train", task: str = "facts") -> tuple[EditCase, ...]:
    return tuple(fact(number, split, task) for number in range(count))

"""How a resolved run suits its model: editors that cannot edit it, lengths of generation, defaults of another model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instructedit.editors import ChatFormat, Editor, InputError, LanguageModel, MetaModel, UnservedError
from instructedit.editors.chat import chat_format, end_token

from ..results.records import Defaults
from .config import RunConfig
from .resolve import ResolvedRun
from .settings import RowSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def cannot_edit(editor: Editor[Any], model: LanguageModel | MetaModel) -> str | None:
    """Return why an editor cannot edit a model, e.g. because it has no such module; None if it can.

    Raises:
        InputError: If the editor's options name a block that the model does not have.
    """
    try:
        editor.sites(model)
    except UnservedError as error:
        return str(error)
    return None


def cannot_edit_notes(run: ResolvedRun, model: LanguageModel | MetaModel) -> Iterator[str]:
    """Yield a sentence on each editor of a run that cannot edit its model; its rows fail, the others are run.

    Raises:
        InputError: As `cannot_edit`, with the place of the row.
    """
    for editor in dict.fromkeys(row.editor for row in run.rows):
        with run.config.origin.at(f"editors.{editor}", editor):
            reason = cannot_edit(run.editors[next(row.name for row in run.rows if row.editor == editor)], model)
        if reason:
            yield f"'{editor}' cannot edit this model, and its rows will fail: {reason}"


def check_generation(config: RunConfig, name: str, context: int, vocabulary: int) -> None:
    """Check the options of generation against a model's context and vocabulary, in tokens; `InputError` beyond them."""
    generation = config.generation
    place = config.origin.of("generation") if config.origin.file else name
    longest = max(generation.max_new_tokens, generation.fluency_tokens if config.fluency else 0)
    if longest >= context:
        raise InputError(f"{place}: {longest} new tokens are requested, but the model's context is {context}.")
    if generation.fluency_top_k > vocabulary:
        raise InputError(f"{place}: fluency_top_k is {generation.fluency_top_k}, but the vocabulary has {vocabulary}.")


def chat_of(run: ResolvedRun, tokenizer: "PreTrainedTokenizerBase") -> ChatFormat | None:
    """Return the text around the prompts of a run; None for bare prompts.

    Raises:
        InputError: If the model has no such chat template, or no token that ends an answer where an editor needs one.
    """
    origin = run.config.origin
    with origin.at("chat"):
        chat = chat_format(run.config.chat, tokenizer)
    for row in run.rows:
        if run.editors[row.name].config.end_of_turn and end_token(tokenizer, chat) is None:
            turn = "chat template has no special token that ends the assistant's turn"
            place = turn if chat else "tokenizer has none"
            with origin.at(f"editors.{row.editor}", row.editor):
                raise InputError(
                    f"Option 'end_of_turn': a token that ends an answer was expected; the model's {place}."
                )
    return chat


def defaults_of_another(editor: Editor[Any], model: LanguageModel | MetaModel) -> Defaults | None:
    """Return the options left at defaults that were published for another model; None without any.

    An option that the user has set is the user's choice, whatever its value.
    """
    published = editor.config.published
    if published is None or published.fits(model):
        return None
    options = tuple(option for option in published.options if not editor.config.sets(option))
    return Defaults(model=published.model, options=options) if options else None


def foreign_defaults(
    rows: Sequence[RowSpec], editors: Mapping[str, Editor[Any]], model: LanguageModel | MetaModel
) -> dict[str, Defaults]:
    """Return `defaults_of_another` by row."""
    return {row.name: left for row in rows if (left := defaults_of_another(editors[row.name], model)) is not None}


def foreign_defaults_note(rows: Sequence[RowSpec], found: Mapping[str, Defaults]) -> Iterator[str]:
    """Yield one sentence on all options that `foreign_defaults` found; none if it found none."""
    by_editor = {row.editor: found[row.name] for row in rows if row.name in found}
    words = [f"{editor}: {', '.join(own.options)} ({own.model})" for editor, own in by_editor.items()]
    if words:
        yield (
            f"defaults that were published for another model: {'; '.join(words)}. `instructedit list options "
            "EDITOR` describes them."
        )

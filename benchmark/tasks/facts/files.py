"""Files of own facts as records: tables (CSV, TSV, Parquet), and JSON in the layouts that the field shares facts in.

Cells of tables are texts: `NA`, `None` and `1.0` stay what they are. `pandas.read_csv` pads short rows and renames
repeated columns silently, so text tables are read by Python's `csv`; pandas reads Parquet.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import check, decode, describe, parse_json, read_bytes
from instructedit.editors.writing_systems import blank

from ..foreign_layouts import unread_layout
from ..parse import LONGEST_TEXT, MOST_ITEMS, TABLES, Row, read_rows

SUFFIXES = (*TABLES, ".json", ".jsonl")
"""Names of files of facts end in one of these."""
_EXPECTED = "a file of facts"
_PARQUET = b"PAR1"
"""Begin and end of a Parquet file."""
_SEPARATORS = {"\t": "tab", ";": "semicolon", ",": "comma"}


class FactsFile(NamedTuple):
    """The records of a file in order, its digest, and its layout in words; of a table each column is a field.

    `empty` counts the rows of a table without any text, which are left out.
    """

    rows: list[Row]
    sha256: str
    layout: str
    empty: int = 0


def is_facts_file(name: str) -> bool:
    """Tell whether a name is that of a file of facts, by its ending."""
    return Path(name).suffix.lower() in SUFFIXES


def read_file(path: Path) -> FactsFile:
    """Return the records of a file; `InputError` if it is broken, empty, too large, or of a layout that is not read."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: is no file of facts by its name, which has to end in {', '.join(SUFFIXES)}.")
    content = read_bytes(path, _EXPECTED)
    digest = hashlib.sha256(content).hexdigest()
    if suffix == ".parquet":
        rows, layout = _parquet(content, path), "table"
    elif suffix in TABLES:
        rows, layout = _table(decode(content, str(path), _EXPECTED), path)
    else:
        rows, layout = _json(content, path)
    kept = [row for row in rows if suffix not in TABLES or not _blank(row)]
    if not kept:
        raise InputError(f"{path}: found no fact, expected at least one row below the names of the columns.")
    return FactsFile(kept, digest, layout, len(rows) - len(kept))


def _blank(row: Row) -> bool:
    return all(isinstance(cell, str) and blank(cell) for cell in row.fields.values())


def _table(text: str, path: Path) -> tuple[list[Row], str]:
    """Return the rows of a CSV or TSV file; lines that begin with `#` are comments.

    The separator of a CSV file is the semicolon if its line of names has one and no comma, as spreadsheets of many
    countries write it.
    """
    lines = list(StringIO(text, newline=""))
    heading = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    separator = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in heading and "," not in heading else ","
    records = _records(lines, separator, path)
    line, names = next(records, (0, []))
    names = [name.strip() for name in names]
    if len(names) == 1 and (other := next((sign for sign in _SEPARATORS if sign in names[0]), None)):
        suffix = ".tsv" if other == "\t" else ".csv"
        raise InputError(
            f"{path}, line {line}: found one column with {_SEPARATORS[other]}s in its name; a table that is separated "
            f"by {_SEPARATORS[other]}s has to be named {path.stem}{suffix}."
        )
    for number, name in enumerate(names):
        if not name:
            raise InputError(f"{path}, line {line}: column {number + 1} has no name, one was expected.")
        if names.index(name) < number:
            raise InputError(f"{path}, line {line}: the column {describe(name)} occurs twice, once was expected.")
    rows = []
    for index, (line, cells) in enumerate(records):
        place = f"{path}, row {index} (line {line})"
        if len(cells) != len(names):
            at = f"after column '{names[-1]}'"
            if len(cells) < len(names):
                at = f"column '{names[len(cells)]}' is missing"
            raise InputError(
                f"{place}: found {len(cells)} cell{'' if len(cells) == 1 else 's'}, {len(names)} were expected ({at}); "
                f"a text that holds the separator, a {_SEPARATORS[separator]}, has to be in double quotes."
            )
        fields = dict(zip(names, cells, strict=True))
        check(fields, place, longest=LONGEST_TEXT, most=MOST_ITEMS)
        rows.append(Row(path, index, fields, line))
    return rows, f"table of {len(names)} columns, separated by {_SEPARATORS[separator]}s"


def _records(lines: Sequence[str], separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line and the cells of each record that is neither empty nor a comment."""
    csv.field_size_limit(max(csv.field_size_limit(), 10 * LONGEST_TEXT))
    done = 0
    while done < len(lines):
        if lines[done].startswith("#") or not lines[done].strip("\r\n"):
            done += 1
            continue
        reader = csv.reader((lines[at] for at in range(done, len(lines))), delimiter=separator, strict=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            raise InputError(
                f"{path}, line {done + 1}: broken row ({error}); a quote within a quoted text is written twice."
            ) from error
        yield done + 1, cells
        done += reader.line_num


def _parquet(content: bytes, path: Path) -> list[Row]:
    """Return the rows of a Parquet file; what is no list becomes a text, and what is missing an empty one."""
    import pandas as pd

    try:
        frame = pd.read_parquet(BytesIO(content))
    except (ValueError, OSError, ImportError) as error:  # pyarrow's errors are ValueErrors
        if not content.startswith(_PARQUET) or not content.endswith(_PARQUET):
            raise InputError(f"{path}: is no whole Parquet file; {_EXPECTED} was expected.") from error
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"{path}: a Parquet file that cannot be read ({reason}).") from error
    names = [str(name) for name in frame.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: the column {describe(repeated[0])} occurs twice, once was expected.")
    rows = []
    for index, cells in enumerate(frame.itertuples(index=False, name=None)):
        fields = {name: _cell(cell) for name, cell in zip(names, cells, strict=True)}
        check(fields, f"{path}, row {index}", longest=LONGEST_TEXT, most=MOST_ITEMS)
        rows.append(Row(path, index, fields))
    return rows


def _cell(cell: Any) -> Any:
    import pandas as pd

    if hasattr(cell, "tolist") and not isinstance(cell, str):
        cell = cell.tolist()
    if isinstance(cell, list):
        return [_cell(item) for item in cell]
    return "" if pd.isna(cell) else str(cell)


def _json(content: bytes, path: Path) -> tuple[list[Row], str]:
    if path.suffix.lower() == ".json" and content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        document = parse_json(content, str(path), _EXPECTED)
        if not isinstance(document.get("prompts"), list):
            raise InputError(
                f"{path}: found one object with {', '.join(map(describe, list(document)[:6])) or 'no field'}, expected "
                "an array of records, JSON lines in a file '.jsonl', or EasyEdit's lists 'prompts', 'target_new', ..."
            )
        check(document, str(path), longest=LONGEST_TEXT)
        return [Row(path, index, record) for index, record in enumerate(_easyedit(document, path))], "EasyEdit's lists"
    rows = read_rows(content, path)
    for row in rows:
        if advice := unread_layout(row.fields):
            raise InputError(f"{row.place}: the record {advice}.")
    nested = any(isinstance(row.fields.get("requested_rewrite"), Mapping) for row in rows)
    rows = [replace(row, fields=_rome(row)) if nested else row for row in rows]
    return rows, "ROME's CounterFact" if nested else "JSON records"


def _easyedit(document: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """Yield a record for each index of EasyEdit's parallel lists; nested ones stand under a name, by field."""

    def at(value: Any, index: int, name: str) -> Any:
        if isinstance(value, Mapping):
            return {key: at(inner, index, f"{name}.{key}") for key, inner in value.items()}
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != count:
            found = f"{len(value)} items" if isinstance(value, list) else describe(value)
            raise InputError(f"{path}, field '{name}': found {found}, expected a list of {count}, as 'prompts' has.")
        return value[index]

    count = len(document["prompts"])
    for index in range(count):
        record = {{"prompts": "prompt"}.get(name, name): at(value, index, name) for name, value in document.items()}
        for name in ("locality_inputs", "portability_inputs"):
            record[name] = {subset: _pairs(group) for subset, group in (record.get(name) or {}).items()}
        yield record


def _pairs(group: Any) -> Any:
    """Return one edit's probes of a group, which EasyEdit has as one prompt or as a list of several, as entries."""
    if not isinstance(group, Mapping):
        return group
    prompts, truths = group.get("prompt"), group.get("ground_truth")
    if isinstance(prompts, list):
        truths = truths if isinstance(truths, list) and len(truths) == len(prompts) else [truths] * len(prompts)
        return [{"prompt": prompt, "ground_truth": truth} for prompt, truth in zip(prompts, truths, strict=True)]
    return [] if prompts is None else [{"prompt": prompts, "ground_truth": truths}]


def _rome(row: Row) -> dict[str, Any]:
    """Return a record of ROME's CounterFact as a flat one. Its neighbours have the answer from before the edit."""
    edit = row.fields.get("requested_rewrite")
    if not isinstance(edit, Mapping):
        raise row.error("requested_rewrite", "an object with 'prompt', 'subject', 'target_new'")
    inner = replace(row, fields=dict(edit))
    prompt, subject = inner.text("prompt"), inner.text("subject")
    new, true = ((edit.get(name) or {}).get("str") for name in ("target_new", "target_true"))
    read = {"requested_rewrite", "paraphrase_prompts", "neighborhood_prompts", "pararel_idx"}
    return {
        "prompt": prompt.replace("{}", subject),
        "target_new": new,
        "subject": subject,
        "old": true,
        "rephrase": row.fields.get("paraphrase_prompts"),
        "locality": {
            "Neighborhood": [
                {"prompt": text, "ground_truth": true} for text in row.fields.get("neighborhood_prompts") or ()
            ]
        },
        **{name: value for name, value in row.fields.items() if name not in read},
    }

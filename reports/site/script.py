"""Data files for the browser: scripts, because a page that is opened from disk may not fetch anything."""

import json
from typing import Any

_ESCAPES = {
    # A parser of HTML would end a script at </script> and change its state at <!--.
    "<": "\\u003c",
    # Line ends in JavaScript before 2019, but not in JSON.
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def data_script(name: str, value: Any) -> str:
    """Return a script that hands a value to the page as `siteData[name]`; `assets/data.js` loads it.

    Keys of objects in the value have to be the program's own: a key `__proto__` from the data would not be a key. Texts
    from the data are put into lists.

    Args:
        name: The file's path under `data/`, without `.js`.
        value: Anything that JSON can say; NaN is an error.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return f"siteData[{json.dumps(name)}]={text};\n"

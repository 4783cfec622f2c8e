"""Whether the Hugging Face hub can be reached, asked once: its client alone tries for half a minute to find out."""

import os
from functools import cache
from threading import Thread

WAIT = 4.0
"""Seconds after which the hub counts as out of reach; names may take longer to resolve than a connection may take."""


@cache
def out_of_reach() -> str | None:
    """Return why the hub cannot be reached, None if it can; if it cannot, this process works with its cache alone.

    The question goes through the hub client's own session, so proxies and certificates are those of a download.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    found: list[str | None] = []
    asking = Thread(target=lambda: found.append(_ask(constants.ENDPOINT)), daemon=True)
    asking.start()
    asking.join(WAIT)
    why = found[0] if found else f"no answer within {WAIT:g} s"
    if why is not None:
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"  # for modules of libraries that look there later, and for processes of ours
    return why


def _ask(endpoint: str) -> str | None:
    from huggingface_hub import get_session

    try:
        status = get_session().head(endpoint, timeout=WAIT).status_code
    except Exception as error:  # whatever fails here fails in a download as well
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{endpoint} answers {status}" if status in (502, 503, 504) else None  # as a proxy without a way out does

"""Whether the Hugging Face hub can be reached; its client alone tries for half a minute."""

import os
from functools import cache
from threading import Thread

WAIT = 4.0
"""Seconds after which the hub counts as out of reach; resolving its name may take longer than a connection's limit."""


@cache
def out_of_reach() -> str | None:
    """Return why the hub cannot be reached, None if it can; if it cannot, this process uses its cache alone.

    The request uses the hub client's session, so proxies and certificates are those of a download.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    found: list[str | None] = []
    request = Thread(target=lambda: found.append(_request(constants.ENDPOINT)), daemon=True)
    request.start()
    request.join(WAIT)
    why = found[0] if found else f"no answer within {WAIT:g} s"
    if why is not None:
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"  # for libraries that read it later, and for child processes
    return why


def _request(endpoint: str) -> str | None:
    from huggingface_hub import get_session

    try:
        status = get_session().head(endpoint, timeout=WAIT).status_code
    except Exception as error:  # whatever fails here fails in a download as well
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{endpoint} answers {status}" if status in (502, 503, 504) else None  # a proxy's errors

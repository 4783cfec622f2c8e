"""Where a task's files come from: the shipped world, a folder, or a data set of the Hugging Face hub."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import describe

from .foreign_layouts import describe_file, describe_folder

KNOWEDIT = "zjunlp/KnowEdit"
_LAYOUTS = ("", "benchmark/")  # the hub data set keeps its folders under benchmark/; local copies often drop that level


class MissingError(InputError):
    """A file of a task is not where the data are."""


class AbsentError(MissingError):
    """A data set of the hub that is not on this machine."""


class Source(ABC):
    """A place that gives files by name: `embedded`, `folder` or the hub data set's id.

    Of a hub data set, `revision` is the resolved commit, known once a file was found.
    """

    name: str
    revision: str | None = None

    @abstractmethod
    def find(self, names: Sequence[str]) -> tuple[str, Path]:
        """Return the first of several accepted names that exists, and its local path; `InputError` if none does."""


class Folder(Source):
    """A local folder in KnowEdit's layout, with or without its `benchmark/` level."""

    name = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, names: Sequence[str]) -> tuple[str, Path]:
        """See `Source.find`."""
        for name in names:
            for layout in _LAYOUTS:
                if (file := self.path / layout / name).is_file():
                    return name, file
        raise MissingError(
            f"Folder {self.path} has no file {' or '.join(names)}, neither directly in it nor under benchmark/."
            f"{describe_folder(self.path)}"
        )


class Embedded(Folder):
    """The synthetic world that is shipped with the package."""

    name = "embedded"

    def __init__(self) -> None:
        super().__init__(Path(str(resources.files("instructedit.benchmark"))) / "embedded" / "data")


class Hub(Source):
    """A data set of the Hugging Face hub, read through its local cache, or from the cache alone if `local`.

    Without a revision it is the default branch. All files come from the commit that the first one resolved to.
    """

    def __init__(self, repo: str = KNOWEDIT, revision: str | None = None, *, local: bool = False) -> None:
        self.name = repo
        self._local = local
        self._wanted = revision
        self._id = repo if revision is None else f"{repo}@{revision}"

    def find(self, names: Sequence[str]) -> tuple[str, Path]:
        """See `Source.find`."""
        # `datasets` cannot read these files: Arrow columns have one type, KnowEdit's answers several. Its downloader
        # contacts the hub first, even at a pinned commit, and fails offline although the file is cached (datasets 5.2).
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        from instructedit.editors.models.hub import out_of_reach

        unreachable: Exception | None = None
        offline = self._local or out_of_reach() is not None
        for name in names:
            for layout in _LAYOUTS:
                try:
                    file = hf_hub_download(
                        self.name,
                        layout + name,
                        repo_type="dataset",
                        revision=self.revision or self._wanted,
                        # One unreachable request takes 25 s of retries; after it only the cache is used.
                        local_files_only=offline or unreachable is not None,
                    )
                except LocalEntryNotFoundError as error:
                    unreachable = error
                except EntryNotFoundError:
                    continue
                except (HfHubHTTPError, HFValidationError, OSError) as error:
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                    raise InputError(f"The hub data set {self._id} cannot be read: {reason}") from error
                else:
                    # .../snapshots/<commit>/<file>
                    self.revision = Path(file).parents[(layout + name).count("/")].name
                    return name, Path(file)
        if unreachable is not None:
            raise AbsentError(
                f"The hub data set {self._id} cannot be reached and the local cache lacks {' or '.join(names)}; "
                "connect, or name a folder that holds the files."
            ) from unreachable
        raise MissingError(f"The hub data set {self._id} has no file {' or '.join(names)}.")


def open_source(text: str | None, *, local: bool = False) -> Source:
    """Return the source a user named, `embedded` or None for the embedded world; `InputError` if there is none.

    `hub` is KnowEdit on the hub, `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION` another data set or version,
    anything else an existing folder. A `local` one uses only the cache of a hub data set.
    """
    if text is None or text == "embedded":
        return Embedded()
    if text == "hub":
        return Hub(local=local)
    if match := re.fullmatch(r"hub:([\w.-]+/[\w.-]+)(?:@(.+))?", text):
        return Hub(match[1], match[2], local=local)
    expected = "an existing folder, 'hub', 'hub:OWNER/NAME' or 'hub:OWNER/NAME@REVISION'"
    if text.startswith("hub:"):
        raise InputError(f"Data source '{text}' is not there, expected {expected}.")
    path = Path(text).expanduser()
    try:
        folder, file, there = path.is_dir(), path.is_file(), path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Data source {describe(text)} is no path ({reason}), expected {expected}.") from error
    if folder:
        return Folder(path)
    if file:
        raise InputError(
            f"Data source '{text}' is a file, but a folder with the files of the tasks was expected. The file "
            f"{describe_file(path)}."
        )
    raise InputError(f"Data source '{text}' is {'no folder' if there else 'not there'}, expected {expected}.")

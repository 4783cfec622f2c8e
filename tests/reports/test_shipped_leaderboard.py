"""The leaderboard of this repository: every submission in it is accepted, small, and on the site."""

import json
from pathlib import Path

from instructedit.reports.leaderboard.build import build
from instructedit.reports.leaderboard.reruns import SUFFIX

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "leaderboard"
MOST = 2**20
"""Maximum size of a submission, in bytes; docs/leaderboard.md says so."""


def test_every_shipped_submission_is_accepted_and_on_the_site(tmp_path: Path):
    packs = [path for path in FOLDER.iterdir() if not path.name.endswith(SUFFIX)]
    assert packs
    assert {path.suffix for path in packs} == {".zip"}
    assert max(path.stat().st_size for path in packs) <= MOST
    found = build(FOLDER, tmp_path / "site")
    assert [str(finding) for verdict in found.refused for finding in verdict.findings.found] == []
    assert found.accepted == len(packs)
    assert found.remarks == ()
    tables = [table for path in tmp_path.glob("site/tasks/*.json") for table in json.loads(path.read_text())]
    assert {table["table"]["task"] for table in tables} >= {"counterfact", "recent", "convsent", "zsre"}

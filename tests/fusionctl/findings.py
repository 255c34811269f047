"""What `fusionctl doctor` finds, for tests to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusionctl.cli import run

Found = dict[str, Any]

ELSEWHERE = 'model = "lab/x"\n[providers.lab]\nbase_url = "http://127.0.0.1:9/v1"\n'
"""A provider that is not there, and so no time spent on the embedded model."""


def look(home: Path, capsys: pytest.CaptureFixture[str]) -> list[Found]:
    """What doctor finds, in this process; the exit code must agree with it."""
    code = run(["--home", str(home), "doctor", "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    return checked(out, code)


def checked(out: str, code: int) -> list[Found]:
    findings: list[Found] = json.loads(out)
    assert all(list(finding) == ["check", "ok", "detail", "advice"] for finding in findings)
    assert all(finding["ok"] or finding["advice"] for finding in findings), "a finding without advice"
    assert code == (0 if all(finding["ok"] for finding in findings) else 1)
    return findings


def wrong(findings: list[Found], check: str) -> list[Found]:
    return [finding for finding in findings if finding["check"] == check and not finding["ok"]]


def of(findings: list[Found], check: str) -> Found:
    (found,) = [finding for finding in findings if finding["check"] == check]
    return found

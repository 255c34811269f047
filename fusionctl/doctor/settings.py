"""The configuration: everything that is wrong with it, and whether the daemon has it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from msgspec.structs import replace

from fusionctl.doctor.case import Case
from fusionctl.doctor.finding import Finding
from fusiond import config as configuration
from fusiond.errors import FusionError

CHECK = "configuration"


def check(case: Case) -> Iterator[Finding]:
    """Every problem of the file; else of the environment and the key files; else whether it is in effect."""
    file = case.paths.config_file
    problems = configuration.check(configuration.read_text(file, case.env))
    for problem in problems:
        yield Finding(CHECK, False, f"{file}{' ' if problem.line else ': '}{problem}", _remedy(case))
    if problems:
        return
    try:
        config = configuration.load(file, case.env)
    except FusionError as error:  # the environment's share
        yield Finding(CHECK, False, error.message, error.advice or "correct or unset it")
        return
    faults = list(_key_faults(config, case))
    yield from faults
    if not faults:
        yield _in_effect(case)


def _remedy(case: Case) -> str:
    return f"correct it, then: {case.command('reload')}" if case.holder else "correct it"


def _key_faults(config: configuration.Config, case: Case) -> Iterator[Finding]:
    """Each provider by itself: the key of one does not hide that of the next."""
    for name, provider in config.providers.items():
        try:
            configuration.resolve_keys(replace(config, providers={name: provider}), case.env)
        except FusionError as error:
            yield Finding(CHECK, False, error.message, error.advice)


def _in_effect(case: Case) -> Finding:
    file = case.paths.config_file
    if not file.exists():
        return Finding(CHECK, True, f"{file} does not exist: the defaults apply")
    if case.about is not None and case.about.config_file == str(file):
        taken = datetime.fromisoformat(case.about.configured).timestamp()
        if file.stat().st_mtime > taken:
            return Finding(
                CHECK, False, f"{file} was changed after the daemon had read it", "fusionctl reload"
            )
    return Finding(CHECK, True, f"{file}: ok")

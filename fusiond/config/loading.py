"""From the file and the environment to the configuration in effect.

What checks a file is imported only where there is something to check: most homes have none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from fusiond.config.keys import has_key, key_file
from fusiond.config.schema import (
    ACTOR_KINDS,
    BUILT_IN_APPROVAL,
    BUILT_IN_PROVIDERS,
    EMBEDDED_MODEL,
    FIRST_CHOICE,
    LOG_LEVELS,
    AgentsSettings,
    Config,
    LogLevel,
    ProviderSettings,
    ToolsSettings,
    in_struct_shape,
)
from fusiond.errors import ConfigError, Denied, UnknownModel


def load(path: Path, env: Mapping[str, str] = os.environ) -> Config:
    """The configuration in effect: the file at `path`, the environment over it, defaults below it.

    A file that is not there means defaults, unless FUSION_CONFIG names it. ConfigError says file, line,
    key and nearest right name of the first problem; Denied that the file may not be read.
    """
    text = read_text(path, env)
    raw = _checked(text, path) if text else {}
    return _with_environment(msgspec.convert(_completed(raw, path.parent, env), Config), env)


def read_text(path: Path, env: Mapping[str, str] = os.environ) -> str:
    """The text of the file, "" where there is none. Raises as `load` does."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if env.get("FUSION_CONFIG") or path.is_symlink():
            raise ConfigError(f"{path} does not exist", advice="fusionctl config init writes one") from None
        return ""
    except PermissionError:
        raise Denied(f"{path} may not be read", advice=f"its mode must let user {os.geteuid()} in") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} line {line}: this is not UTF-8 text", advice="save it as UTF-8") from None


def _checked(text: str, path: Path) -> dict[str, Any]:
    from fusiond.config.checking import parse

    raw, problems = parse(text)
    if problems:
        first, others = problems[0], len(problems) - 1
        advice = f"and {others} more: fusionctl config check" if others else ""
        raise ConfigError(f"{path}{' ' if first.line else ': '}{first}", advice=advice)
    return raw


def _completed(raw: Mapping[str, Any], folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """The file's tables with those that every configuration has, in the struct's shape."""
    tools = raw.get("tools", {})
    return {
        **raw,
        "actors": {kind: raw.get("actors", {}).get(kind, {}) for kind in ACTOR_KINDS},
        "providers": _providers(raw.get("providers", {}), folder, env),
        "tools": in_struct_shape(
            ToolsSettings, {**tools, "approval": {**BUILT_IN_APPROVAL, **tools.get("approval", {})}}
        ),
        "agents": in_struct_shape(AgentsSettings, raw.get("agents", {})),
    }


def _providers(given: Mapping[str, Any], folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    merged = {name: msgspec.structs.asdict(one) for name, one in BUILT_IN_PROVIDERS.items()}
    for name, table in given.items():
        below = merged.get(name, {})
        if table.get("api_key_file"):
            table = {**table, "api_key_file": key_file(table["api_key_file"], folder, env)}
            below = {**below, "api_key_env": ""}
        merged[name] = {**below, **table, "base_url": table.get("base_url") or below.get("base_url", "")}
    return merged


# --- the environment ----------------------------------------------------------------------------------------


def _with_environment(config: Config, env: Mapping[str, str]) -> Config:
    config = replace(config, providers=_with_urls(config.providers, env))
    level = _level(env.get("FUSION_LOG_LEVEL", "")) or config.log_level
    return replace(config, log_level=level, model=_model(config, env))


def _with_urls(
    providers: Mapping[str, ProviderSettings], env: Mapping[str, str]
) -> dict[str, ProviderSettings]:
    changed = dict(providers)
    for name in BUILT_IN_PROVIDERS:
        variable = f"{name.upper()}_BASE_URL"
        url = env.get(variable, "").strip()
        if not url:
            continue
        from fusiond.config.rules import url_fault

        if fault := url_fault(url):
            raise ConfigError(f"{variable} {fault}")
        changed[name] = replace(changed[name], base_url=url)
    return changed


def _level(word: str) -> LogLevel | None:
    if not word.strip():
        return None
    for level in LOG_LEVELS:
        if level == word.strip().upper():
            return level
    from fusiond.config.naming import nearest

    near = nearest(word, LOG_LEVELS)
    meant = f" (did you mean {near}?)" if near else ""
    raise ConfigError(f'FUSION_LOG_LEVEL is "{word}"{meant}', advice=f"one of {', '.join(LOG_LEVELS)}")


def _model(config: Config, env: Mapping[str, str]) -> str:
    """The default model: FUSION_MODEL, the file's, the first provider with a key, the embedded one."""
    if wanted := env.get("FUSION_MODEL", "").strip():
        from fusiond.config.rules import model_faults

        for fault in model_faults(wanted, config.providers):
            meant = f" (did you mean {fault.nearest}?)" if fault.nearest else ""
            raise UnknownModel(f"FUSION_MODEL {fault.message}{meant}")
        return wanted
    if config.model:
        return config.model
    usable = (model for name, model in FIRST_CHOICE.items() if has_key(config.providers[name], env))
    return next(usable, EMBEDDED_MODEL)

"""The providers' keys: read when they are needed, never part of the configuration, never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fusiond.config.schema import Config, ProviderSettings
from fusiond.errors import ConfigError, Denied


def resolve_keys(config: Config, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The key of each provider that has one; a provider whose variable is not set has none.

    A key comes from the file that `api_key_file` names, else from the variable that `api_key_env` names, else
    from the systemd credential of the variable's name. Raises ConfigError or Denied for a file of no use.
    """
    found = {name: _key(name, provider, env) for name, provider in config.providers.items()}
    return {name: key for name, key in found.items() if key}


def has_key(provider: ProviderSettings, env: Mapping[str, str]) -> bool:
    """Whether a key is given, without reading it."""
    if provider.api_key_file:
        return True
    return (
        bool(env.get(provider.api_key_env, "").strip()) or _credential(provider.api_key_env, env) is not None
    )


def key_file(named: str, folder: Path, env: Mapping[str, str]) -> str:
    """The absolute path for `api_key_file = named`: a credential of that name, else relative to `folder`."""
    credential = _credential(named, env)
    return str(credential or folder / os.path.expanduser(named))  # noqa: PTH111


def _key(name: str, provider: ProviderSettings, env: Mapping[str, str]) -> str:
    if provider.api_key_file:
        return _read(name, Path(provider.api_key_file))
    if key := env.get(provider.api_key_env, "").strip():
        return _clean(key, f"the variable {provider.api_key_env}", name)
    credential = _credential(provider.api_key_env, env)
    return _read(name, credential) if credential else ""


def _credential(name: str, env: Mapping[str, str]) -> Path | None:
    folder = env.get("CREDENTIALS_DIRECTORY")
    if not folder or not name or "/" in name:
        return None
    path = Path(folder) / name
    try:
        return path if path.is_file() else None
    except OSError as error:
        raise Denied(f"the credential {path} cannot be looked at: {error.strerror}") from None


def _read(name: str, path: Path) -> str:
    what = f"the key file of provider {name}, {path},"
    try:
        return _clean(path.read_text("utf-8").strip(), str(path), name)
    except FileNotFoundError:
        raise ConfigError(f"{what} does not exist", advice=f"see providers.{name}.api_key_file") from None
    except PermissionError:
        raise Denied(f"{what} may not be read", advice=f"its mode must let user {os.geteuid()} in") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise ConfigError(f"{what} cannot be read: {why}") from None


def _clean(key: str, where: str, provider: str) -> str:
    if not key:
        raise ConfigError(f"{where} is empty", advice=f"it should hold the key of provider {provider}")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"{where} holds no key", advice=f"the key of provider {provider} is one word on one line"
        )
    return key

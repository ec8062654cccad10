"""Settings from the environment and `.env`."""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from instep.auth.break_glass import describe_weakness
from instep.core.errors import PermanentError
from instep.core.http import normalize_origin

S = TypeVar("S", bound=BaseSettings)


class SettingsError(PermanentError):
    """A setting is missing or invalid; the message names it and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_settings")


def _blank_is_none(value: object) -> object:
    return None if is_blank(value) else value


def _split_words(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def is_blank(value: object) -> bool:
    """Return whether a setting's value is empty."""
    return isinstance(value, str) and not value.strip()


DEFAULT_PORT = 8000
EMPTY_ALLOWED = frozenset({"instep_database_owns"})
NAMES_OF_OTHER_PROGRAMS = frozenset({"INSTEP_URL"})  # written for other programs, such as into `demo.env`


def _parse_origins(value: object) -> object:
    """Return the origins in a text in canonical form. Raises ValueError for one that is invalid."""
    words = _split_words(value)
    return tuple(_parse_origin(it) for it in words) if isinstance(words, tuple) else words


def _parse_origin(text: str) -> str:
    try:
        parts, origin = urlsplit(text), normalize_origin(text)
    except ValueError:
        parts, origin = None, ""
    if parts is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be origins such as https://app.example.com, separated by spaces or commas")
    return origin


OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_blank_is_none)]
OptionalText = Annotated[str | None, BeforeValidator(_blank_is_none)]
WordList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_words)]
OriginList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_origins)]


class Settings(BaseSettings):
    """All settings, from the environment and from a `.env` file; the environment wins.

    An empty value means unset, as in most shells and platforms. `DATABASE_URL` and `PORT`, which platforms set, apply
    where ours are not set.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    instep_data_dir: Path = Path(".instep")
    instep_database_url: SecretStr | None = None
    instep_database_listen_url: OptionalSecret = None
    platform_database_url: SecretStr | None = Field(default=None, validation_alias="database_url")
    instep_public_url: str = "http://127.0.0.1:8000"
    instep_host: str = "127.0.0.1"
    instep_port: int | None = Field(default=None, ge=0, le=65535)
    platform_port: int | None = Field(default=None, ge=0, le=65535, validation_alias="port")
    instep_admin_key: OptionalSecret = None
    instep_metrics_key: OptionalSecret = None
    instep_admins: WordList = ()
    instep_admin_roles: WordList = ()
    instep_frame_ancestors: WordList = ()
    instep_authorized_parties: OriginList = ()
    instep_cors_origins: OriginList = ()
    instep_email_change: Literal["reinvite", "verify", "force"] = "reinvite"
    instep_deactivation: Literal["database", "membership", "ban"] = "database"
    instep_impersonation: Literal["refuse", "safe", "allow"] = "safe"
    instep_log_json: bool = False
    instep_worker: bool = True
    instep_sync_every: int = Field(default=60, ge=0, le=7 * 24 * 60)
    instep_database_owns: WordList = ("deactivation", "attributes")
    instep_connections: int = Field(default=2_000, ge=10, le=100_000)
    instep_header_timeout: int = Field(default=10, ge=1, le=3_600)
    instep_body_timeout: int = Field(default=10, ge=1, le=3_600)
    instep_idle_timeout: int = Field(default=5, ge=1, le=3_600)
    instep_rate_limit: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["off"] = 100
    instep_pace: Annotated[int, Field(ge=10, le=1_000_000)] | Literal["auto", "off"] = "auto"

    clerk_secret_key: OptionalSecret = None
    clerk_publishable_key: OptionalText = None
    clerk_webhook_signing_secret: OptionalSecret = Field(
        default=None, validation_alias=AliasChoices("clerk_webhook_signing_secret", "clerk_webhook_secret")
    )
    clerk_api_url: str = "https://api.clerk.com"
    clerk_frontend_api_url: OptionalText = None
    clerk_sign_in_url: OptionalText = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        """Treat an empty value as unset; for a list of fields, empty means none."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if not is_blank(value) or name in EMPTY_ALLOWED}

    @field_validator("instep_public_url", "clerk_api_url", "clerk_frontend_api_url", "clerk_sign_in_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://people.example.com")
        return value.rstrip("/")

    @field_validator("instep_admin_key")
    @classmethod
    def _is_hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        weakness = describe_weakness(value.get_secret_value()) if value else None
        if weakness:
            raise ValueError(weakness)
        return value

    @property
    def database_url(self) -> str:
        """Database URL: the one set, else the platform's, else an SQLite file in the data directory."""
        url = self.instep_database_url or self.platform_database_url
        return url.get_secret_value() if url else f"sqlite:///{self.instep_data_dir / 'instep.db'}"

    @property
    def database_setting(self) -> str:
        """Name of the setting that determines the database."""
        if self.instep_database_url is not None:
            return "INSTEP_DATABASE_URL"
        return "DATABASE_URL" if self.platform_database_url is not None else "INSTEP_DATA_DIR"

    @property
    def port(self) -> int:
        """Port to listen on: the one set, else the platform's, else 8000."""
        return next((port for port in (self.instep_port, self.platform_port) if port is not None), DEFAULT_PORT)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Signing secrets; several during a rotation."""
        secrets = self.clerk_webhook_signing_secret
        return tuple(secrets.get_secret_value().replace(",", " ").split()) if secrets else ()


class DemoSettings(BaseSettings):
    """Settings of the demo: its two ports and its directory."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    instep_port: int = Field(default=8000, ge=1, le=65535)
    clerk_emulator_port: int = Field(default=8001, ge=1, le=65535)
    instep_data_dir: Path = Path(".demo")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if not is_blank(value)}


def load_demo_settings() -> DemoSettings:
    """Load the demo's settings from the environment. Raises SettingsError."""
    return _load_or_raise(DemoSettings)


def make_settings(values: dict[str, str]) -> Settings:
    """Create settings from these values (named as in the environment) only. Raises SettingsError."""
    return _load_or_raise(
        lambda: _ExplicitSettings.model_validate({name.lower(): value for name, value in values.items()})
    )


class _ExplicitSettings(Settings):
    """Settings that read neither the environment nor a file."""

    @classmethod
    def settings_customise_sources(cls, *sources: Any, **more: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return (more["init_settings"],)


def find_unknown_settings(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a line for each INSTEP_* name in the environment and `.env` that is no setting: most are misspelled."""
    given = {**dotenv_values(".env"), **os.environ} if environment is None else environment
    known = {name.upper() for name in (*Settings.model_fields, *DemoSettings.model_fields)} | NAMES_OF_OTHER_PROGRAMS
    unknown = sorted(name for name in given if name.upper().startswith("INSTEP_") and name.upper() not in known)
    return [f"{name} is not a setting of instep{_suggest_name(name, known)}" for name in unknown]


def _suggest_name(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else "; see docs/settings.md"


def load_settings() -> Settings:
    """Load the settings of this process. Raises SettingsError with one line per invalid setting, without values."""
    return _load_or_raise(Settings)


def _load_or_raise(make: Callable[[], S]) -> S:
    try:
        return make()
    except ValidationError as error:
        wrong: dict[str, str] = {}
        for it in error.errors(include_input=False):
            wrong.setdefault(str(it["loc"][0]).upper(), it["msg"].removeprefix("Value error, "))
        raise SettingsError("\n".join(f"{name}: {message}" for name, message in wrong.items())) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f".env: can't be read: {reason}") from None

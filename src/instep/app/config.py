"""Settings: the only reader of the environment. Secrets are never shown: they are SecretStr from here on."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from instep.kit.errors import PermanentError

S = TypeVar("S", bound=BaseSettings)


class BadSettings(PermanentError):
    """A setting is missing or wrong; the message names it and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_settings")


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _words(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Secret = Annotated[SecretStr | None, BeforeValidator(_blank_is_none)]
Text = Annotated[str | None, BeforeValidator(_blank_is_none)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class Settings(BaseSettings):
    """Everything that can be set, from the environment and from a `.env` file; the environment wins."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    instep_data_dir: Path = Path(".instep")
    instep_database_url: SecretStr | None = None
    instep_public_url: str = "http://127.0.0.1:8000"
    instep_host: str = "127.0.0.1"
    instep_port: int = Field(default=8000, ge=0, le=65535)
    instep_admin_key: Secret = None
    instep_metrics_key: Secret = None
    instep_admins: Words = ()
    instep_admin_roles: Words = ()
    instep_frame_ancestors: Words = ()
    instep_email_change: Literal["reinvite", "verify", "force"] = "reinvite"
    instep_deactivation: Literal["database", "membership", "ban"] = "database"
    instep_log_json: bool = False
    instep_worker: bool = True
    instep_sync_every: int = Field(default=60, ge=0, le=7 * 24 * 60)
    instep_database_owns: Words = ("deactivation", "attributes")
    instep_pace: Annotated[int, Field(ge=10, le=1_000_000)] | Literal["auto", "off"] = "auto"

    clerk_secret_key: Secret = None
    clerk_publishable_key: Text = None
    clerk_webhook_signing_secret: Secret = Field(
        default=None, validation_alias=AliasChoices("clerk_webhook_signing_secret", "clerk_webhook_secret")
    )
    clerk_api_url: str = "https://api.clerk.com"
    clerk_frontend_api_url: Text = None
    clerk_sign_in_url: Text = None

    @field_validator("instep_public_url", "clerk_api_url", "clerk_frontend_api_url", "clerk_sign_in_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://people.example.com")
        return value.rstrip("/")

    @property
    def database_url(self) -> str:
        """The database's address: the one set, else an SQLite file in the data folder."""
        if self.instep_database_url is not None:
            return self.instep_database_url.get_secret_value()
        return f"sqlite:///{self.instep_data_dir / 'instep.db'}"

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The signing secrets, several while one is being changed."""
        held = self.clerk_webhook_signing_secret
        return tuple(held.get_secret_value().replace(",", " ").split()) if held else ()


class DemoSettings(BaseSettings):
    """What of the demo can be set: its two ports and its folder."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    instep_port: int = Field(default=8000, ge=1, le=65535)
    clerk_emulator_port: int = Field(default=8001, ge=1, le=65535)
    instep_data_dir: Path = Path(".demo")


def load_demo_settings() -> DemoSettings:
    """The demo's settings from the environment. Raises BadSettings."""
    return _checked(DemoSettings)


def make_settings(values: dict[str, str]) -> Settings:
    """Settings from these values (named as in the environment) and nothing else. Raises BadSettings."""
    return _checked(lambda: _Given.model_validate({name.lower(): value for name, value in values.items()}))


class _Given(Settings):
    """Settings that read neither the environment nor a file."""

    @classmethod
    def settings_customise_sources(cls, *sources: Any, **more: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return (more["init_settings"],)


def load_settings() -> Settings:
    """The settings of this process. Raises BadSettings with one line for each that is wrong, values left out."""
    return _checked(Settings)


def _checked(make: Callable[[], S]) -> S:
    try:
        return make()
    except ValidationError as error:
        lines = [f"{str(it['loc'][0]).upper()}: {it['msg']}" for it in error.errors(include_input=False)]
        raise BadSettings("\n".join(lines)) from None

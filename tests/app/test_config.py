"""Settings: what is wrong is named and never repeated, and what is secret is never shown."""

from pathlib import Path

import pytest

from instep.app.config import Settings, SettingsError, load_demo_settings, load_settings, make_settings
from instep.app.container import make_services
from tests.support.svix import OTHER, SECRET

HIDDEN = "hunter2-correct-horse-battery"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine, and no file of settings."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("CLERK_WEBHOOK_SECRET", raising=False)


def test_the_default_is_a_local_file_without_clerk() -> None:
    settings = load_settings()
    assert settings.database_url == "sqlite:///.instep/instep.db"
    assert settings.webhook_secrets == ()
    assert settings.clerk_secret_key is None
    assert settings.instep_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INSTEP_PORT", HIDDEN),
        ("INSTEP_PORT", "70000"),
        ("INSTEP_PUBLIC_URL", HIDDEN),
        ("INSTEP_PUBLIC_URL", f"ftp://{HIDDEN}"),
        ("CLERK_API_URL", HIDDEN),
        ("CLERK_FRONTEND_API_URL", f"javascript:{HIDDEN}"),
        ("CLERK_SIGN_IN_URL", HIDDEN),
        ("INSTEP_LOG_JSON", HIDDEN),
        ("INSTEP_DEACTIVATION", HIDDEN),
    ],
)
@pytest.mark.parametrize("is_from_environment", [True, False])
def test_an_invalid_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_from_environment: bool
) -> None:
    monkeypatch.setenv(name, value)
    read = load_settings if is_from_environment else lambda: make_settings({name: value})
    with pytest.raises(SettingsError) as refused:
        read()
    assert str(refused.value).startswith(f"{name}: ")
    assert HIDDEN not in str(refused.value)
    assert refused.value.__cause__ is None, "nor in the traceback"


def test_all_invalid_settings_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTEP_PORT", "x")
    monkeypatch.setenv("CLERK_API_URL", "x")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert {line.split(":")[0] for line in str(refused.value).splitlines()} == {"INSTEP_PORT", "CLERK_API_URL"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLERK_PUBLISHABLE_KEY", HIDDEN),
        ("CLERK_PUBLISHABLE_KEY", f"pk_test_{HIDDEN}"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", HIDDEN),
        ("CLERK_WEBHOOK_SIGNING_SECRET", f"{SECRET} {HIDDEN}"),
        ("INSTEP_DATABASE_URL", HIDDEN),
        ("INSTEP_DATABASE_URL", f"nosuch://user:{HIDDEN}@host/db"),
        ("INSTEP_DATABASE_URL", f"postgresql://user:{HIDDEN}@host:port/db"),
    ],
)
def test_settings_found_invalid_while_building_services_are_named_too(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make_services(make_settings({name: value}))
    assert str(refused.value).startswith(f"{name}: ")
    assert HIDDEN not in str(refused.value)


def test_a_blank_setting_is_unset() -> None:
    settings = make_settings({"CLERK_SECRET_KEY": " ", "CLERK_PUBLISHABLE_KEY": "", "INSTEP_ADMIN_KEY": ""})
    assert (settings.clerk_secret_key, settings.clerk_publishable_key, settings.instep_admin_key) == (None,) * 3


@pytest.mark.parametrize("parted_by", [" ", ",", ", ", "  \n"])
def test_several_signing_secrets_are_accepted_during_a_rotation(parted_by: str) -> None:
    settings = make_settings({"CLERK_WEBHOOK_SIGNING_SECRET": f"{SECRET}{parted_by}{OTHER}"})
    assert settings.webhook_secrets == (SECRET, OTHER)


def test_the_other_name_of_the_signing_secret_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SECRET", SECRET)
    assert load_settings().webhook_secrets == (SECRET,)


def test_an_address_loses_its_last_slash() -> None:
    assert make_settings({"INSTEP_PUBLIC_URL": "https://people.example.com/"}).instep_public_url.endswith(".com")


def test_the_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("INSTEP_PORT=9001\nINSTEP_HOST=0.0.0.0\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("INSTEP_PORT", "9002")
    settings = load_settings()
    assert (settings.instep_port, settings.instep_host) == (9002, "0.0.0.0")  # noqa: S104 (a setting, nothing listens)


def test_settings_that_are_given_read_neither_the_environment_nor_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("INSTEP_PORT=9001\n")
    monkeypatch.setenv("INSTEP_HOST", "10.0.0.1")
    assert (make_settings({}).port, make_settings({}).instep_host) == (8000, "127.0.0.1")


def test_printed_settings_contain_no_secret() -> None:
    names = ("CLERK_SECRET_KEY", "CLERK_WEBHOOK_SIGNING_SECRET", "INSTEP_ADMIN_KEY", "INSTEP_DATABASE_URL")
    settings = make_settings(dict.fromkeys(names, HIDDEN))
    assert HIDDEN not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_the_demo_names_its_own_two_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load_demo_settings().instep_port, load_demo_settings().clerk_emulator_port) == (8000, 8001)
    monkeypatch.setenv("CLERK_EMULATOR_PORT", HIDDEN)
    with pytest.raises(SettingsError, match="CLERK_EMULATOR_PORT") as refused:
        load_demo_settings()
    assert HIDDEN not in str(refused.value)


def test_origins_are_read_as_browsers_write_them() -> None:
    text = "https://App.Example.com:443/, http://localhost:3000 chrome-extension://abcdef"
    settings = make_settings({"INSTEP_AUTHORIZED_PARTIES": text})
    wanted = ("https://app.example.com", "http://localhost:3000", "chrome-extension://abcdef")
    assert settings.instep_authorized_parties == wanted


@pytest.mark.parametrize("text", ["*", "app.example.com", "https://app.example.com/path", "https://*.example.com"])
@pytest.mark.parametrize("name", ["INSTEP_AUTHORIZED_PARTIES", "INSTEP_CORS_ORIGINS"])
def test_an_invalid_origin_is_one_line_that_names_the_setting(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: .*https://app.example.com"):
        make_settings({name: text})

"""A sentence is translated into the reader's language, with everything nested in it."""

from gettext import NullTranslations

from instep.core.errors import PermanentError
from instep.core.i18n import Localizer, lazy_gettext

GERMAN = {
    "Failed to sync: %(why)s": "Nicht abgeglichen: %(why)s",
    "%(name)s is gone.": "%(name)s ist weg.",
    "Plain.": "Schlicht.",
}


class German(NullTranslations):
    """Knows three sentences."""

    def gettext(self, message: str) -> str:
        return GERMAN.get(message, message)


def test_it_is_english_without_a_catalog() -> None:
    sentence = lazy_gettext("Failed to sync: %(why)s", why=lazy_gettext("%(name)s is gone.", name="Maya"))
    assert sentence == "Failed to sync: Maya is gone."
    assert str(PermanentError(sentence, code="x")) == "Failed to sync: Maya is gone."
    assert Localizer().translate(sentence) == sentence


def test_it_is_translated_with_nested_sentences() -> None:
    words = Localizer(German())
    inner = lazy_gettext("%(name)s is gone.", name="50 % Maya")
    assert (
        words.translate(lazy_gettext("Failed to sync: %(why)s", why=inner)) == "Nicht abgeglichen: 50 % Maya ist weg."
    )
    assert words.translate(PermanentError(lazy_gettext("Plain."), code="x")) == "Schlicht."
    assert words.translate(lazy_gettext("Failed to sync: %(why)s", why=PermanentError("Plain.", code="x"))).endswith(
        "Schlicht."
    )


def test_a_plain_text_is_unchanged_or_translated_by_the_catalog() -> None:
    assert Localizer(German()).translate("Plain.") == "Schlicht."
    assert Localizer(German()).translate("100 % of Clerk's own words") == "100 % of Clerk's own words"
    assert Localizer().translate("") == ""

"""A sentence that was made without a reader is said in the reader's language, with whatever is inside it."""

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


def test_it_reads_as_english_where_nobody_translates() -> None:
    sentence = lazy_gettext("Failed to sync: %(why)s", why=lazy_gettext("%(name)s is gone.", name="Maya"))
    assert sentence == "Failed to sync: Maya is gone."
    assert str(PermanentError(sentence, code="x")) == "Failed to sync: Maya is gone."
    assert Localizer().translate(sentence) == sentence


def test_it_is_said_anew_in_another_language_also_what_lies_inside() -> None:
    words = Localizer(German())
    inner = lazy_gettext("%(name)s is gone.", name="50 % Maya")
    assert (
        words.translate(lazy_gettext("Failed to sync: %(why)s", why=inner)) == "Nicht abgeglichen: 50 % Maya ist weg."
    )
    assert words.translate(PermanentError(lazy_gettext("Plain."), code="x")) == "Schlicht."
    assert words.translate(lazy_gettext("Failed to sync: %(why)s", why=PermanentError("Plain.", code="x"))).endswith(
        "Schlicht."
    )


def test_a_text_of_elsewhere_is_said_as_it_is_or_by_the_catalogue() -> None:
    assert Localizer(German()).translate("Plain.") == "Schlicht."
    assert Localizer(German()).translate("100 % of Clerk's own words") == "100 % of Clerk's own words"
    assert Localizer().translate("") == ""

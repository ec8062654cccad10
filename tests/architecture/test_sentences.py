"""Every sentence that people read can be translated: none is built of pieces, none is written bare in a template."""

import ast
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "instep"
PACKAGES = ("auth", "console", "domain", "invitations", "members", "sync", "users")
REFUSALS = {"ChangeRejectedError", "InvitationRefusedError", "SyncRefusedError"}
BARE = {"instep", "· instep", "Ctrl K", "Esc"}  # a name, and keys as they stand on a keyboard
READ_ALOUD = ("aria-label", "placeholder", "title", "alt", "data-copied", "data-says")

_CODE = re.compile(r"{#.*?#}|{%-?\s*trans\b.*?{%-?\s*endtrans\s*-?%}|{%-?\s*raw.*?endraw\s*-?%}", re.DOTALL)
_JINJA = re.compile(r"{{.*?}}|{%.*?%}", re.DOTALL)
_TAG = re.compile(r"<!--.*?-->|<style.*?</style>|<script.*?</script>|<[^<>]*>", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]{2,}")


def pieced_together(source: str) -> list[int]:
    """The lines on which a refusal is made of an f-string: no catalogue could hold it."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args)
    return [
        call.lineno
        for call in calls
        if getattr(call.func, "id", "") in REFUSALS and isinstance(call.args[0], ast.JoinedStr)
    ]


def bare_words(template: str) -> list[str]:
    """Words of a template that are shown or read aloud, and that no catalogue holds."""
    text = _JINJA.sub("\0", _CODE.sub("\0", template))
    named = [
        value
        for name in READ_ALOUD
        for value in re.findall(rf'\b{name}="([^"]*)"', text)
        if _WORD.search(value.replace("\0", ""))
    ]
    shown = re.sub(r"&\w+;", "", _TAG.sub("\n", text)).replace("\0", "\n").splitlines()
    return named + [line.strip() for line in shown if _WORD.search(line) and line.strip() not in BARE]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_refusal_is_made_of_pieces(package: str) -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{line}"
        for path in sorted((SOURCES / package).rglob("*.py"))
        for line in pieced_together(path.read_text())
    ]
    assert found == [], "use lazy_gettext('... %(name)s ...', name=...)"


def test_no_template_has_words_outside_of_the_catalogue() -> None:
    found = {
        str(path.relative_to(SOURCES)): words
        for path in sorted(SOURCES.rglob("templates/**/*.html"))
        if "app" not in path.relative_to(SOURCES).parts[:1] and (words := bare_words(path.read_text()))
    }
    assert found == {}


def test_these_tests_can_fail() -> None:
    assert pieced_together('raise ChangeRejectedError(f"{name} is gone.", code="x")') == [1]
    assert pieced_together('raise ChangeRejectedError(lazy_gettext("%(name)s is gone.", name=name), code="x")') == []
    assert bare_words('<p title="Bare">{{ _("fine") }}</p><b>Bare too</b>') == ["Bare", "Bare too"]
    assert bare_words("{% trans a=b %}Fine {{ a }}{% endtrans %}{# fine #}<kbd>Esc</kbd>") == []

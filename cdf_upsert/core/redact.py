"""Silence about secrets: a text type that does not show itself, and a cleaner for everything that is said.

Two nets, one behind the other. Known secrets (from the settings, and every token as it is had) are replaced
wherever they stand, also quoted for a URL, escaped for JSON or inside a Basic header. Shapes that are always
secret (bearer headers, JSON Web Tokens, passwords in a URL, codes in a redirect, cookies) are replaced even
when nobody has told of them.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from json import dumps
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"

_SHORTEST_ANYWHERE: Final = 6
"""A known secret shorter than this is replaced only where it stands alone: 'a' is in every word."""

_NAMES: Final = (
    r"access_token|refresh_token|id_token|device_code|client_secret|client_assertion|code_verifier|password"
)
_WORD: Final = r"[^\s&'\"\\,;{}\[\]]+"
_JOINT: Final = r"""(?:\\*['"]\s*[:=,]\s*b?\\*['"]|\s*[:=]\s*)"""
"""Between a name and its value: both in quotes, or neither: an unquoted value of JSON is a number, no secret."""

# A shape never takes a quote, a backslash or a bracket along, so that JSON stays JSON.
_SHAPES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?", MASK),
        (r"\b(bearer|basic)(\s+|%20|\+)[\w.~+/%-]{16,}=*", rf"\1\2{MASK}"),
        (rf"(authorization{_JOINT})(?:(?:bearer|basic)\s+)?{_WORD}", rf"\1{MASK}"),
        (rf"(cookie{_JOINT})[^\r\n'\"\\,}}\]]+", rf"\1{MASK}"),
        (rf"(\b(?:{_NAMES}){_JOINT}){_WORD}", rf"\1{MASK}"),
        (rf"([?&](?:code|token|sig)=){_WORD}", rf"\1{MASK}"),
        (r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@'\"\\,{}\[\]]+@", rf"\1{MASK}@"),
    )
)


class Secret:
    """A text that says `***` wherever it is shown; `reveal()` is the one way to read it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the request that needs it and for nothing else."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled or copied")


class Redactor:
    """Replaces secrets in text; learns new ones while the program runs."""

    def __init__(self, secrets: Iterable[Secret | str] = ()) -> None:
        self._forms: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self.learn(*secrets)

    def learn(self, *secrets: Secret | str) -> None:
        """From now on these are replaced too; empty ones are none."""
        for secret in secrets:
            self._forms |= _forms(secret.reveal() if isinstance(secret, Secret) else secret)
        # The longest first: a secret that begins another must not leave the other's tail behind.
        ordered = sorted(self._forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(_pattern, ordered))) if ordered else None

    def clean(self, text: str) -> str:
        """The text with every known secret and every secret shape replaced by `***`."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text


def _forms(text: str) -> set[str]:
    """The ways in which a secret may be written down; the shape of Basic covers `id:secret` in Base64."""
    return {
        form
        for form in (
            text,
            text.strip(),
            quote(text, safe="", errors="replace"),
            quote(text, errors="replace"),
            quote_plus(text, errors="replace"),
            dumps(text)[1:-1],
            dumps(text, ensure_ascii=False)[1:-1],
            repr(text)[1:-1],
            b64encode(text.encode(errors="replace")).decode(),
        )
        if form
    }


def _pattern(form: str) -> str:
    if len(form) >= _SHORTEST_ANYWHERE:
        return re.escape(form)
    return rf"(?<!\w){re.escape(form)}(?!\w)"

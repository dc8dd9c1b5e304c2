"""Reading typed values from an environment, with one clear line for each that is wrong [1.2]."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from libs.contracts.limits import U64_MAX

EX_CONFIG = 78
"""Exit status of a process whose configuration is wrong (sysexits.h)."""

_DIGITS_MOST = len(str(U64_MAX))
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class SettingError(Exception):
    """A setting has a value that is not allowed. Its text is the one line that people see."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(f"{name}={value!r} is not allowed: expected {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Described:
    """A setting as the documentation shows it."""

    name: str
    default: str
    allowed: str
    doc: str


class Reader:
    """Reads settings whose names begin with a prefix and remembers what it was asked for.

    An empty value counts as absent, so that `NAME=${NAME:-}` in a compose file means the default.
    """

    def __init__(self, env: Mapping[str, str], prefix: str) -> None:
        self._env = env
        self._prefix = prefix
        self.described: list[Described] = []
        self._known: set[str] = set()

    def key(self, name: str) -> str:
        """Return the whole name of a setting."""
        return f"{self._prefix}{name}"

    def text(
        self, name: str, default: str | None, doc: str, *, alias: str | None = None, allowed: str = "text"
    ) -> str | None:
        """Return a text, stripped."""
        self._describe(name, default, allowed, doc)
        return self._raw(name, alias)[1] or default

    def boolean(self, name: str, default: bool, doc: str) -> bool:
        """Return a boolean: `1 true yes on` or `0 false no off`, in any case."""
        allowed = f"one of {', '.join(_TRUE + _FALSE)}"
        self._describe(name, str(default).lower(), allowed, doc)
        key, raw = self._raw(name)
        if raw is None:
            return default
        if raw.lower() not in _TRUE + _FALSE:
            raise SettingError(key, raw, allowed)
        return raw.lower() in _TRUE

    def integer(
        self,
        name: str,
        default: int,
        doc: str,
        *,
        least: int = 0,
        most: int = U64_MAX,
        floor: int | None = None,
        alias: str | None = None,
    ) -> int:
        """Return a whole number from `least` to `most`; a smaller one than `floor` becomes `floor`."""
        allowed = f"a whole number from {least} to {most}"
        self._describe(name, str(default), allowed + (f" (at least {floor} is used)" if floor else ""), doc)
        key, raw = self._raw(name, alias)
        if raw is None:
            return default
        digits = raw.removeprefix("-")
        whole = digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MOST
        if not whole or not least <= int(raw) <= most:
            raise SettingError(key, raw, allowed)
        return max(int(raw), floor or least)

    def number(
        self, name: str, default: float, doc: str, *, least: float, most: float, alias: str | None = None
    ) -> float:
        """Return a finite number from `least` to `most`."""
        allowed = f"a number from {least:g} to {most:g}"
        self._describe(name, f"{default:g}", allowed, doc)
        key, raw = self._raw(name, alias)
        return default if raw is None else _number(key, raw, allowed, least, most)

    def fraction(self, name: str, doc: str) -> float | None:
        """Return a finite number above 0 and up to 1, or none."""
        allowed = "a number above 0 and up to 1"
        self._describe(name, "none", allowed, doc)
        key, raw = self._raw(name)
        return None if raw is None else _number(key, raw, allowed, math.ulp(0.0), 1.0)

    def choice(
        self, name: str, default: str, options: Mapping[str, str], doc: str, *, alias: str | None = None
    ) -> str:
        """Return one of `options`, a mapping of accepted spellings to what they mean."""
        allowed = f"one of {', '.join(options)}"
        self._describe(name, default, allowed, doc)
        key, raw = self._raw(name, alias)
        if raw is None:
            return default
        if raw.lower() not in options:
            raise SettingError(key, raw, allowed)
        return options[raw.lower()]

    def given(self, name: str, alias: str | None = None) -> bool:
        """Whether the environment names the setting."""
        return self._raw(name, alias)[1] is not None

    def said(self, name: str) -> str | None:
        """Return a variable that is no setting of ours, stripped; None where it is absent or empty."""
        return self._raw(name)[1]

    def unknown(self) -> list[str]:
        """Return a sentence for each variable with the prefix that no setting has."""
        strangers = (name for name in self._env if name.startswith(self._prefix) and name not in self._known)
        return [self._guess(name) for name in sorted(strangers)]

    def _guess(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._known, n=1, cutoff=0.7)
        return f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "")

    def _raw(self, name: str, alias: str | None = None) -> tuple[str, str | None]:
        for key in (f"{self._prefix}{name}", f"{self._prefix}{alias}" if alias else ""):
            self._known.add(key)
            value = self._env.get(key, "").strip()
            if value:
                return key, value
        return f"{self._prefix}{name}", None

    def _describe(self, name: str, default: str | None, allowed: str, doc: str) -> None:
        shown = "none" if default is None else default
        self.described.append(Described(f"{self._prefix}{name}", shown, allowed, doc))


def _number(key: str, raw: str, allowed: str, least: float, most: float) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise SettingError(key, raw, allowed) from None
    if not math.isfinite(value) or not least <= value <= most:
        raise SettingError(key, raw, allowed)
    return value

"""Numbers, sizes and times as people read them; ASCII, so that every log can hold them."""

import re


def count(number: int, noun: str) -> str:
    """Return `1 record`, `1,003 records`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(nbytes: float) -> str:
    """Return bytes as `460 kB`: two or three digits, 1 kB = 1000 bytes."""
    if nbytes < 1000:
        return f"{nbytes:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        nbytes /= 1000
        if nbytes < 999.5:
            return f"{nbytes:.1f} {unit}" if nbytes < 9.95 else f"{nbytes:.0f} {unit}"
    return f"{nbytes / 1000:,.1f} TB"


def duration(seconds: float) -> str:
    """Return `1.2 s`, `42 s`, `4 min 12 s` or `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def clock(seconds: float) -> str:
    """Return `4:12` or `1:02:03`, for what counts down."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rate(per_second: float) -> str:
    """Return records per second as `829/s` or `0.4/s`."""
    return f"{per_second:,.0f}/s" if per_second >= 9.95 or not per_second else f"{per_second:.1f}/s"


def utf8(text: str) -> str:
    """Return `text` fit for JSON: names of files may hold bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """Return `text` without anything that a terminal would obey: control characters are written out."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)

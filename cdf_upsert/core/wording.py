"""Numbers, sizes and times as people read them; ASCII, so that every log can hold them."""

import re


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """Return `1 record`, `1,003 records`; `nouns` is the plural that has more than an s."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


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


def shown(text: str) -> str:
    r"""Return `text` fit to be written: a byte in the name of a file that is not UTF-8 is told as `\xff`."""
    if text.isascii():
        return text
    try:
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # Half a pair that comes from elsewhere.
        return text.encode(errors="backslashreplace").decode()


def input_name(path: str) -> str:
    """Return how an input is told: its path, or `standard input`."""
    return "standard input" if path == "-" else shown(path)


def place(path: str, record: int, line: int | None, key: tuple[str, str] | None) -> str:
    """Return where a record stands, as `a.ndjson, line 12, key weather/EWR-3`, on one line."""
    text = f"{input_name(path)}, " + (f"record {record}" if line is None else f"line {line}")
    return one_line(shown(text if key is None else f"{text}, key {key[0]}/{key[1]}"))


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """Return `text` without anything that a terminal would obey: control characters are written out."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)

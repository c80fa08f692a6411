"""The few pages that people see: the state of the sandbox, signing in, typing a device's code."""

import html
from collections.abc import Iterable, Sequence
from string import Template
from typing import Any

from cdf_upsert.sandbox.identity import Ask
from cdf_upsert.sandbox.traffic import Entry, Traffic

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
$refresh<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 2rem 1.25rem; max-width: 62rem; }
body.narrow { max-width: 28rem; padding-top: 12vh; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 1rem; }
.quiet { opacity: .7; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { font-weight: 500; opacity: .7; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; white-space: nowrap; }
tr { border-bottom: 1px solid var(--line); }
.number { text-align: right; }
code { font: .9em ui-monospace, monospace; background: var(--soft); }
code { padding: .1em .3em; border-radius: .25em; }
input, button { font: inherit; padding: .5rem 1rem; border: 1px solid var(--line); border-radius: .4rem; }
input { width: 100%; margin-bottom: 1rem; text-transform: uppercase; letter-spacing: .1em; }
button { cursor: pointer; background: none; color: inherit; }
button.first { background: #2563eb; border-color: #2563eb; color: #fff; }
</style>
</head>
<body$body_class>
$content
</body>
</html>
""")


def page(title: str, content: str, *, narrow: bool = False, refresh: bool = False) -> bytes:
    """A whole page; `content` is HTML."""
    return _PAGE.substitute(
        title=html.escape(title),
        content=content,
        body_class=' class="narrow"' if narrow else "",
        refresh='<meta http-equiv="refresh" content="5">\n' if refresh else "",
    ).encode()


def overview(project: str, streams: Iterable[dict[str, Any]], traffic: Traffic) -> bytes:
    """Streams, counts, the last requests and the faults that have happened."""
    parts = [
        "<h1>cdf-upsert sandbox</h1>",
        f'<p class="quiet">Project <code>{html.escape(project)}</code>, a stand-in for CDF.</p>',
        "<h2>Streams</h2>",
        _table(("Stream", "Template", "#Records", "#Megabytes"), [_stream(one) for one in streams])
        or "<p>There are no streams yet.</p>",
        "<h2>Requests</h2>",
        _table(("Operation", "Status", "#Requests"), _counts(traffic))
        or "<p>There were no requests yet.</p>",
    ]
    if traffic.faults:
        faults = [(name, f"{number:,}") for name, number in traffic.faults.most_common()]
        parts += ["<h2>Faults on purpose</h2>", _table(("Fault", "#Requests"), faults)]
    if traffic.requests:
        last = [_entry(entry) for entry in list(traffic.requests)[:-21:-1]]
        head = ("#No.", "Operation", "Path", "Status", "#Records", "#ms", "Fault")
        parts += ["<h2>Last requests</h2>", _table(head, last)]
    return page("cdf-upsert sandbox", "\n".join(parts), refresh=True)


def _stream(one: dict[str, Any]) -> tuple[str, ...]:
    limits = one["settings"]["limits"]
    megabytes = limits["maxGigaBytesTotal"]["consumed"] * 1000
    records = limits["maxRecordsTotal"]["consumed"]
    return one["externalId"], one["createdFromTemplate"], f"{records:,}", f"{megabytes:,.1f}"


def _counts(traffic: Traffic) -> list[tuple[str, ...]]:
    return [
        (name, _status(status), f"{number:,}") for (name, status), number in sorted(traffic.counts.items())
    ]


def _entry(entry: Entry) -> tuple[str, ...]:
    records = f"{entry.records:,}" if entry.records else ""
    took = f"{entry.seconds * 1000:.1f}"
    return str(entry.number), entry.operation, entry.path, _status(entry.status), records, took, entry.fault


def _status(status: int) -> str:
    return str(status) if status else "no reply"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a head that starts with # is a column of numbers. Without rows there is none."""
    if not rows:
        return ""
    classes = [' class="number"' if name.startswith("#") else "" for name in head]
    lines = [
        "".join(
            f"<th{style}>{html.escape(name.lstrip('#'))}</th>"
            for style, name in zip(classes, head, strict=True)
        )
    ]
    lines += [
        "".join(f"<td{style}>{html.escape(cell)}</td>" for style, cell in zip(classes, row, strict=True))
        for row in rows
    ]
    return '<div class="scroll"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def sign_in(ask: Ask, subject: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Asks a person whether an application may act for them."""
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in fields
    )
    client = html.escape(ask.client.client_id)
    content = f"""<h1>Sign in</h1>
<p><code>{client}</code> asks to use this sandbox as <code>{html.escape(subject)}</code>.</p>
<form method="post">{hidden}
<button class="first" name="answer" value="allow">Allow</button>
<button name="answer" value="deny">Deny</button>
</form>"""
    return page("Sign in to the sandbox", content, narrow=True)


def device(user_code: str, fault: str = "") -> bytes:
    """Asks a person for the code that a device shows."""
    told = (
        f'<p role="alert">{html.escape(fault)}</p>'
        if fault
        else "<p>Enter the code that your device shows.</p>"
    )
    content = f"""<h1>Connect a device</h1>
{told}
<form method="post">
<input name="user_code" value="{html.escape(user_code)}" aria-label="Code" required autofocus>
<button class="first" name="answer" value="allow">Allow</button>
<button name="answer" value="deny">Deny</button>
</form>"""
    return page("Connect a device to the sandbox", content, narrow=True)


def told(title: str, sentence: str) -> bytes:
    """A page that only says something."""
    return page(title, f"<h1>{html.escape(title)}</h1>\n<p>{html.escape(sentence)}</p>", narrow=True)

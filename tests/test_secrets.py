"""Secrets, planted in every place that has one, are looked for in every output of every command."""

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
import typer
import typer.core

from cdf_upsert.cli import app

MARK = "xQ7zPlantedSecret"

DRIVER = """
import contextlib, io, json, sys
from cdf_upsert import cli
out = []
for arguments in json.loads(sys.argv[1]):
    stdout, stderr = io.StringIO(), io.StringIO()
    sys.argv = ["cdf-upsert", *arguments]
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            cli.main()
            code = 0
        except SystemExit as ending:
            code = ending.code
    out.append([code or 0, stdout.getvalue(), stderr.getvalue()])
print(json.dumps(out))
"""

RECORD = {
    "space": "s",
    "externalId": "k",
    "sources": [{"source": {"type": "container", "space": "s", "externalId": "c"}, "properties": {"v": 1}}],
}


@dataclass(frozen=True)
class Service:
    """A service that tells everybody all that it was sent: `status` is what it answers to the API's requests."""

    status: int = 400
    html: bool = False
    token_status: int = 200
    partial: bool = False


@contextmanager
def talking(service: Service) -> Iterator[str]:
    """The service on loopback; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.endswith(("/token", "/devicecode")):
                self._say(*self._token(body.decode()))
                return
            said = f"You sent {dict(self.headers)}"
            if service.html:
                self._say(service.status, f"<html>{said}</html>")
            elif service.partial:
                entry = {"space": "s", "externalId": "k", "code": service.status, "message": said}
                self._say(
                    service.status, {"error": {"code": service.status, "message": said, "partial": [entry]}}
                )
            else:
                self._say(service.status, {"error": {"code": service.status, "message": said}})

        do_GET = do_POST = _answer  # noqa: N815  The names are the base class's.

        def _token(self, body: str) -> tuple[int, Any]:
            if service.token_status != 200:
                heard = {name: values[0] for name, values in parse_qs(body).items()}
                words = f"You sent {heard} and {dict(self.headers)} and {body}"
                return service.token_status, {"error": "invalid_client", "error_description": words}
            return 200, {
                "access_token": f"{MARK}-access",
                "refresh_token": f"{MARK}-refresh",
                "expires_in": 3600,
            }

        def _say(self, status: int, content: Any) -> None:
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", f"session={MARK}-cookie")
            self.send_header("x-request-id", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  As the base class has it.
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client_variables(url: str) -> dict[str, str]:
    return {
        "CDF_URL": url,
        "CDF_PROJECT": "acme",
        "PROVIDER": "other",
        "IDP_TOKEN_URL": f"{url}/token",
        "IDP_CLIENT_ID": "me",
        "IDP_CLIENT_SECRET": f"{MARK}+/ secret",
    }


def commands(*, full: bool) -> list[list[str]]:
    """Every command at every verbosity; not `full`: those that talk to the service, told to say all they can."""
    talks = [
        ["load", "st", "in.ndjson", "--patience", "300ms", "--timeout", "5"],
        ["verify", "st", "in.ndjson", "--patience", "300ms"],
    ]
    talks += [["doctor", "st"], ["doctor", "--json"]]
    loud = [[*command, "-v"] if command[0] == "load" else command for command in talks]
    if not full:
        return loud
    ways = (
        [],
        ["-q"],
        ["-v"],
        ["--log-format", "json"],
        ["-v", "--log-format", "json"],
        ["--json"],
        ["--progress", "plain"],
    )
    return [
        *loud,
        *[[*talks[0], *way] for way in ways],
        ["load", "st", "in.ndjson", "--dry-run", "-v"],
        ["load", "st", "missing.ndjson"],
        ["load", "--nonsense"],
        ["check", "in.ndjson"],
        ["check", "in.ndjson", "--json"],
        ["plan", "st", "in.ndjson"],
        ["runs"],
        ["runs", "--json"],
        ["login", "--device"],
        ["logout"],
        ["doctor", "--help"],
        ["--version"],
    ]


def outputs(directory: Path, environment: dict[str, str], lines: list[list[str]]) -> dict[str, str]:
    """What each command says, and every file that is left afterwards, but those that may hold a secret."""
    (directory / "in.ndjson").write_text(json.dumps(RECORD) + "\n")
    (directory / "tmp").mkdir(exist_ok=True)
    planted = {path for path in directory.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(lines)],
        cwd=directory,
        env={
            "PATH": "",
            "TMPDIR": str(directory / "tmp"),
            "CDF_UPSERT_STATE_DIR": str(directory / "state"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = {"stderr of the process": done.stderr}
    for arguments, (code, stdout, stderr) in zip(lines, json.loads(done.stdout), strict=True):
        found[f"{' '.join(arguments)} (exit code {code})"] = f"{stdout}\n{stderr}"
    for path in directory.rglob("*"):
        if path.is_file() and path not in planted and path.parent.name != "sessions":
            found[str(path.relative_to(directory))] = path.read_bytes().decode("utf-8", "replace")
    return found


def leaks(found: dict[str, str]) -> list[str]:
    """The outputs that show a planted secret, in plain or in Base64 at any offset."""
    forms = [MARK] + [
        base64.b64encode(b"\0" * offset + MARK.encode()).decode()[4 if offset else 0 : -4]
        for offset in range(3)
    ]
    return [f"{name}: {text}" for name, text in found.items() if any(form in text for form in forms)]


def test_the_search_itself_finds_what_is_there():
    """A search that finds nothing anywhere would prove nothing."""
    assert leaks({"plain": f"a{MARK}b"})
    for offset in range(3):
        assert leaks({"basic": base64.b64encode(b"x" * offset + MARK.encode() + b" and more").decode()})
    assert not leaks({"none": "nothing to see"})


@pytest.mark.parametrize(
    "service",
    [
        Service(400),
        Service(401),
        Service(403),
        Service(404),
        Service(409, partial=True),
        Service(422),
        Service(500, partial=True),
        Service(502, html=True),
        Service(200, html=True),
        Service(token_status=401),
        Service(token_status=503),
    ],
    ids=repr,
)
def test_a_service_that_repeats_what_it_was_sent_gives_nothing_away(tmp_path, service):
    """Neither token, secret, cookie nor header comes back out, by whatever way the service fails."""
    with talking(service) as url:
        found = outputs(tmp_path, client_variables(url), commands(full=False))
    assert leaks(found) == []


def test_no_option_takes_a_secret():
    """What stands on a command line can be read by everybody with `ps`, and stays in the shell's history."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    context = group.make_context("cdf-upsert", [], resilient_parsing=True)
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    names = {
        (name, option)
        for name, command in commands.items()
        for parameter in (command.params if command is not None else ())
        for option in parameter.opts
    }
    assert len(names) > 50
    assert [pair for pair in names if re.search("token|secret|password|key|credential", pair[1])] == []


def test_no_command_tells_a_secret_at_any_verbosity(tmp_path):
    """Secrets from the environment, and tokens that are had with them."""
    with talking(Service(400)) as url:
        found = outputs(tmp_path, client_variables(url), commands(full=True))
    assert leaks(found) == []
    assert any("exit code 3" in name or "exit code 4" in name for name in found)


def plant(kind: str, directory: Path, url: str) -> dict[str, str]:
    """Variables and files that hold a marked secret in one place."""
    base = client_variables(url)
    bare = {name: value for name, value in base.items() if name != "IDP_CLIENT_SECRET"}
    secret = base["IDP_CLIENT_SECRET"]
    match kind:
        case "given token":
            return {"CDF_URL": url, "CDF_PROJECT": "acme", "CDF_TOKEN": f"{MARK}-given"}
        case "broken token":
            return {"CDF_URL": url, "CDF_PROJECT": "acme", "CDF_TOKEN": f"{MARK} given"}
        case "dotenv":
            (directory / ".env").write_text(f"IDP_CLIENT_SECRET='{secret}'\n")
            return bare
        case "broken dotenv":
            (directory / ".env").write_text(f'IDP_CLIENT_SECRET="{secret}\n')
            return bare
        case "toml":
            (directory / "cdf-upsert.toml").write_text(f'client-secret = "{secret}"\n')
            return bare
        case "broken toml":
            (directory / "cdf-upsert.toml").write_text(f'client-secret = "{secret}\n')
            return bare
        case "secret file":
            (directory / "secret").write_text(secret)
            return bare | {"IDP_CLIENT_SECRET_FILE": "secret"}
        case "secret file of two lines":
            (directory / "secret").write_text(f"{secret}\n{secret}")
            return bare | {"IDP_CLIENT_SECRET_FILE": "secret"}
        case "secret command":
            (directory / "say.py").write_text(f"print({secret!r})")
            return bare | {"CDF_UPSERT_SECRET_COMMAND": f"{sys.executable} say.py"}
        case "failing secret command":
            (directory / "say.py").write_text(f"import sys; print({secret!r}); sys.exit({secret!r})")
            return bare | {"CDF_UPSERT_SECRET_COMMAND": f"{sys.executable} say.py"}
        case "token and secret":
            return base | {"CDF_TOKEN": f"{MARK}-given"}
        case "quoted secret":
            return base | {"IDP_CLIENT_SECRET": f'"{secret}"'}
        case "secret in the address":
            return base | {"CDF_URL": url.replace("://", f"://me:{quote(secret)}@")}
        case "query in the address":
            return base | {"CDF_URL": f"{url}/?sig={MARK}"}
        case "proxy":
            return base | {
                "CDF_URL": "https://x.invalid",
                "HTTPS_PROXY": url.replace("://", f"://me:{quote(secret)}@"),
            }
        case "broken proxy":
            return base | {"HTTPS_PROXY": f"ftp://me:{MARK}@x"}
        case "basic":
            return base | {"CDF_UPSERT_CLIENT_AUTH": "basic"}
        case _:
            store = directory / "state" / "sessions"
            store.mkdir(parents=True)
            tokens = {
                "access": f"{MARK}-kept",
                "expires": None if kind == "session" else 1,
                "refresh": f"{MARK}-refresh",
            }
            kept = {"clientId": "me", "tokenUrl": f"{url}/token", "settings": {}, "tokens": tokens}
            (store / "default.json").write_text(json.dumps(kept))
            return bare | {"LOGIN_FLOW": "interactive", "IDP_DISCOVERY_URL": url}


PLACES = (
    "given token", "broken token", "dotenv", "broken dotenv", "toml", "broken toml", "secret file",
    "secret file of two lines", "secret command", "failing secret command", "token and secret", "quoted secret",
    "secret in the address", "query in the address", "proxy", "broken proxy", "basic", "session", "ended session",
)  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_a_secret_in_any_place_stays_there(tmp_path, kind):
    """Where it is used, where it is wrong, and where it should not be."""
    with talking(
        Service(401, token_status=401 if kind in ("basic", "ended session", "dotenv") else 200)
    ) as url:
        environment = plant(kind, tmp_path, url)
        found = outputs(tmp_path, environment, commands(full=False))
    assert leaks(found) == []


def test_a_device_code_is_not_told(tmp_path):
    """A person sees the short code alone."""
    with talking(Service(token_status=401)) as url:
        environment = client_variables(url) | {"LOGIN_FLOW": "device_code", "PROVIDER": "entra_id"}
        environment |= {"IDP_AUTHORITY_URL": url}
        found = outputs(tmp_path, environment, [["login"], ["login", "--device"], ["doctor"]])
    assert leaks(found) == []
    assert any("invalid_client" in text for text in found.values())

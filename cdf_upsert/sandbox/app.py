"""The sandbox as an ASGI application: the API's paths, sign-in, and a page for people."""

from collections.abc import Callable
from typing import NoReturn
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cdf_upsert.sandbox import pages
from cdf_upsert.sandbox.answers import ENDPOINTS
from cdf_upsert.sandbox.api import Path
from cdf_upsert.sandbox.faults import Answer, Throttle
from cdf_upsert.sandbox.identity import OAuthError
from cdf_upsert.sandbox.service import SUBJECT, Service
from cdf_upsert.sandbox.traffic import Entry
from cdf_upsert.sandbox.wire import json_reply, refusal_reply
from cdf_upsert.sandbox.world import Refusal

_MAX_FORM = 65_536


def build(service: Service, log: Callable[[Entry], None]) -> Starlette:
    """The application over a service; `log` is told of every answered request of the API."""
    web = _Web(service, log)
    routes: list[BaseRoute] = [
        Route(path, Path(service, methods, log)) for path, methods in ENDPOINTS.items()
    ]
    routes += [
        Route("/", web.overview, methods=["GET"]),
        Route("/device", web.device, methods=["GET", "POST"]),
    ]
    # The same provider at the addresses of both kinds of identity provider that the tools know.
    for prefix, device in (("/oauth2", "device"), ("/{tenant}/oauth2/v2.0", "devicecode")):
        routes += [
            Route(f"{prefix}/token", web.token, methods=["POST"]),
            Route(f"{prefix}/authorize", web.authorize, methods=["GET", "POST"]),
            Route(f"{prefix}/{device}", web.start_device, methods=["POST"]),
            Route(f"{prefix}/revoke", web.revoke, methods=["POST"]),
        ]
    for path in (
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/oauth2/.well-known/openid-configuration",
    ):
        routes.append(Route(path, web.discovery, methods=["GET"]))
    routes.append(
        Route("/{tenant}/v2.0/.well-known/openid-configuration", web.tenant_discovery, methods=["GET"])
    )
    return Starlette(
        routes=routes, exception_handlers={HTTPException: web.http_fault, OAuthError: web.oauth_fault}
    )


class _Web:
    """What is not the API proper."""

    def __init__(self, service: Service, log: Callable[[Entry], None]) -> None:
        self._service = service
        self._log = log

    async def overview(self, _: Request) -> Response:
        streams = [stream.read(statistics=True) for stream in self._service.world.streams.all()]
        content = pages.overview(self._service.project, streams, self._service.traffic)
        return Response(content, media_type="text/html")

    async def discovery(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return _json(_metadata(base, f"{base}/oauth2", "device"))

    async def tenant_discovery(self, request: Request) -> Response:
        base = f"{str(request.base_url).rstrip('/')}/{request.path_params['tenant']}"
        return _json(_metadata(f"{base}/v2.0", f"{base}/oauth2/v2.0", "devicecode"))

    async def token(self, request: Request) -> Response:
        body = await _body(request)
        number = self._service.next_number()
        fault = self._service.faults.plan("token", request.url.path, body).fault
        wall = self._service.clock.wall()
        status = 200
        try:
            match fault:
                case Answer(status=code):
                    refuse_on_purpose(code)
                case Throttle():
                    refuse_on_purpose(429)
                case _:
                    pass
            form = dict(parse_qsl(body.decode("latin-1")))
            return _json(self._service.identity.token(form, request.headers.get("authorization"), wall))
        except OAuthError as error:
            status = error.status
            raise
        finally:
            entry = Entry(number, wall, "token", "POST", request.url.path, status, 0.0)
            self._service.traffic.add(entry)
            self._log(entry)

    async def authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        identity, wall = self._service.identity, self._service.clock.wall()
        try:
            ask = identity.ask(query)
        except OAuthError as error:
            return Response(
                pages.told("This request cannot be answered", error.description), 400, media_type="text/html"
            )
        if request.method == "GET" and query.get("prompt") != "none":
            return Response(pages.sign_in(ask, SUBJECT, ()), media_type="text/html")
        form = dict(parse_qsl((await _body(request)).decode("latin-1"))) if request.method == "POST" else {}
        allowed = form.get("answer", "allow") == "allow"
        return RedirectResponse(identity.answer(ask, SUBJECT, allowed=allowed, now=wall), 302)

    async def start_device(self, request: Request) -> Response:
        form = dict(parse_qsl((await _body(request)).decode("latin-1")))
        address = f"{str(request.base_url).rstrip('/')}/device"
        return _json(self._service.identity.start_device(form, address, SUBJECT, self._service.clock.wall()))

    async def device(self, request: Request) -> Response:
        if request.method == "GET":
            return Response(pages.device(request.query_params.get("user_code", "")), media_type="text/html")
        form = dict(parse_qsl((await _body(request)).decode("utf-8", "replace")))
        allowed = form.get("answer") == "allow"
        user_code = form.get("user_code", "")
        if self._service.identity.answer_device(user_code, allowed=allowed, now=self._service.clock.wall()):
            sentence = "Your device is signed in." if allowed else "Your device is not signed in."
            return Response(
                pages.told("Done", f"{sentence} You can close this page."), media_type="text/html"
            )
        return Response(
            pages.device("", "There is no such code, or it has expired."), 400, media_type="text/html"
        )

    async def revoke(self, request: Request) -> Response:
        self._service.identity.revoke(dict(parse_qsl((await _body(request)).decode("latin-1"))))
        return _json({})

    async def oauth_fault(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, OAuthError)
        return _json(error.body(), error.status)

    async def http_fault(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = "Not found." if error.status_code == 404 else f"{error.detail}."
        reply = refusal_reply(Refusal(error.status_code, message))
        headers = {
            **(error.headers or {}),
            "x-request-id": self._service.request_id(self._service.next_number()),
        }
        return Response(reply.body, reply.status, headers, "application/json")


def refuse_on_purpose(status: int) -> NoReturn:
    """Refuse a token because the script says so."""
    raise OAuthError("temporarily_unavailable", "The sandbox was told to say so.", status)


def _json(content: object, status: int = 200) -> Response:
    return Response(json_reply(content).body, status, {"cache-control": "no-store"}, "application/json")


async def _body(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > _MAX_FORM:
            raise OAuthError("invalid_request", f"The form is longer than {_MAX_FORM:,} bytes.", 413)
    return bytes(parts)


def _metadata(issuer: str, oauth: str, device: str) -> dict[str, object]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{oauth}/authorize",
        "token_endpoint": f"{oauth}/token",
        "device_authorization_endpoint": f"{oauth}/{device}",
        "revocation_endpoint": f"{oauth}/revoke",
        "response_types_supported": ["code"],
        "grant_types_supported": [
            "client_credentials",
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code",
        ],
        "code_challenge_methods_supported": ["S256", "plain"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
    }

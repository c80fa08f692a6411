"""The sandbox as an ASGI application: the API's paths, sign-in, and a page for people."""

from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cdf_upsert.sandbox import pages
from cdf_upsert.sandbox.answers import ENDPOINTS
from cdf_upsert.sandbox.api import Path
from cdf_upsert.sandbox.identity import OAuthError
from cdf_upsert.sandbox.service import SUBJECT, Service
from cdf_upsert.sandbox.traffic import Entry
from cdf_upsert.sandbox.wire import MAX_FORM, NOT_KEPT, json_reply, refusal_reply
from cdf_upsert.sandbox.world import Refusal


def build(service: Service, log: Callable[[Entry], None]) -> Starlette:
    """The application over a service; `log` is told of every answered request of the API."""
    web = _Web(service)
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
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: web.http_fault, OAuthError: web.oauth_fault}
    )
    app.router.redirect_slashes = False  # CDF does not look for what may have been meant
    app.router.default = Path(service, {}, log)
    return app


class _Web:
    """What is not the API proper."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def overview(self, _: Request) -> Response:
        streams = [stream.read(statistics=True) for stream in self._service.world.streams.all()]
        return self._page(pages.overview(self._service.project, streams, self._service.traffic))

    async def discovery(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return self._json(_metadata(base, f"{base}/oauth2", "device"))

    async def tenant_discovery(self, request: Request) -> Response:
        base = f"{str(request.base_url).rstrip('/')}/{request.path_params['tenant']}"
        return self._json(_metadata(f"{base}/v2.0", f"{base}/oauth2/v2.0", "devicecode"))

    async def authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        identity, wall = self._service.identity, self._service.clock.wall()
        try:
            ask = identity.ask(query)
        except OAuthError as error:
            return self._page(pages.told("This request cannot be answered", error.description), 400)
        if request.method == "GET" and query.get("prompt") != "none":
            return self._page(pages.sign_in(ask, SUBJECT, ()))
        form = await _form(request) if request.method == "POST" else {}
        allowed = form.get("answer", "allow") == "allow"
        target = identity.answer(ask, SUBJECT, allowed=allowed, now=wall)
        return RedirectResponse(target, 302, self._headers())

    async def start_device(self, request: Request) -> Response:
        address = f"{str(request.base_url).rstrip('/')}/device"
        form, wall = await _form(request), self._service.clock.wall()
        return self._json(self._service.identity.start_device(form, address, SUBJECT, wall))

    async def device(self, request: Request) -> Response:
        if request.method == "GET":
            return self._page(pages.device(request.query_params.get("user_code", "")))
        form = await _form(request)
        allowed = form.get("answer") == "allow"
        wall = self._service.clock.wall()
        if self._service.identity.answer_device(form.get("user_code", ""), allowed=allowed, now=wall):
            sentence = "Your device is signed in." if allowed else "Your device is not signed in."
            return self._page(pages.told("Done", f"{sentence} You can close this page."))
        return self._page(pages.device("", "There is no such code, or it has expired."), 400)

    async def revoke(self, request: Request) -> Response:
        self._service.identity.revoke(await _form(request))
        return self._json({})

    async def oauth_fault(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, OAuthError)
        return self._json(error.body(), error.status)

    async def http_fault(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        reply = refusal_reply(Refusal(error.status_code, f"{error.detail}."))
        headers = {**(error.headers or {}), **self._headers()}
        return Response(reply.body, reply.status, headers, "application/json")

    def _page(self, content: bytes, status: int = 200) -> Response:
        return Response(content, status, self._headers(), "text/html")

    def _json(self, content: object, status: int = 200) -> Response:
        return Response(json_reply(content).body, status, self._headers() | NOT_KEPT, "application/json")

    def _headers(self) -> dict[str, str]:
        return {"x-request-id": self._service.request_id(self._service.next_number())}


async def _form(request: Request) -> dict[str, str]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_FORM:
            raise OAuthError("invalid_request", f"The form is longer than {MAX_FORM:,} bytes.", 413)
    return dict(parse_qsl(content.decode("utf-8", "replace")))


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

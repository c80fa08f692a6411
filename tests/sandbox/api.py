"""A small client of a running sandbox, for tests that look at replies as they are."""

from typing import Any, Self

import httpx
import msgspec

from cdf_upsert.sandbox.serve import Running
from tests.sandbox.builders import container, record, stream


class Api:
    """Requests to one sandbox with its write token, or with another."""

    def __init__(self, sandbox: Running, token: str | None = None, timeout: float = 10) -> None:
        self.sandbox = sandbox
        self.http = httpx.Client(
            base_url=f"{sandbox.address.base_url}/api/v1/projects/{sandbox.address.project}",
            headers={"Authorization": f"Bearer {sandbox.token if token is None else token}"},
            timeout=timeout,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.http.get(path, params=params or None)

    def post(self, path: str, content: Any) -> httpx.Response:
        return self.http.post(path, json=content)

    def send(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        """A body as it is, with its own headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, content=body, headers={"Content-Type": "application/json"} | named)

    def upsert(self, *content: dict[str, Any], stream_id: str = "events") -> httpx.Response:
        return self.post(f"/streams/{stream_id}/records/upsert", {"items": list(content)})

    def declare(self) -> None:
        """The space, the container and the streams that records of the tests need."""
        for path, content in (
            ("/models/spaces", {"space": "plant"}),
            ("/models/containers", container()),
            ("/streams", stream("events")),
            ("/streams", stream("log", "ImmutableTestStream")),
        ):
            self.post(path, {"items": [content]}).raise_for_status()

    def token(self, **form: str) -> httpx.Response:
        """What the token endpoint answers to client credentials."""
        address = self.sandbox.address
        asked = {"grant_type": "client_credentials", "client_id": address.client_id}
        asked |= {"client_secret": address.client_secret}
        return httpx.post(address.token_url, data=asked | form, trust_env=False)


def body(*names: str, **properties: Any) -> bytes:
    return msgspec.json.encode({"items": [record(name, **properties) for name in names]})

"""The REST interface of an engine, as the commands that talk to one reach it."""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import Body, made_of

if TYPE_CHECKING:
    import ssl

    import httpx

OVIRT = "/ovirt-engine/api"
OURS = "/leasehold/api/v1"
LOGIN = "/ovirt-engine/sso/oauth/token"
LOGOUT = "/ovirt-engine/services/sso-logout"
TIMEOUT = 60.0
CODE = "leasehold-code"  # the header with the code of an error

Url = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="URL",
        envvar="LEASEHOLD_ENGINE",
        help="The engine, such as https://engine.example:8443; default: that of the last login.",
    ),
]
Ca = Annotated[
    str,
    typer.Option(
        metavar="FILE", envvar="LEASEHOLD_ENGINE_CA", help="Who signs the engine's certificate."
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.1, max=3600, metavar="S", help="Seconds for an answer.")
]

# The parameters that `reaching` adds to a command, with their defaults.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "engine": (Url, ""),
    "ca": (Ca, ""),
    "timeout": (Timeout, TIMEOUT),
}


@dataclass(frozen=True)
class Engine:
    """One engine. ca: "" for the authorities of the system. timeout: seconds for an answer."""

    url: str
    ca: str
    token: str
    timeout: float = TIMEOUT

    @asynccontextmanager
    async def connected(self) -> "AsyncGenerator[Session]":
        """Requests for the body. Raises BadParameter (1000): the file of the authority is none."""
        import httpx

        with told(self.url):
            client = httpx.AsyncClient(
                base_url=self.url,
                verify=_context(self.ca),
                timeout=self.timeout,
                headers={"accept": "application/json"},
                trust_env=False,
            )
        async with client:
            yield Session(self, client)


@dataclass(frozen=True)
class Session:
    """Requests to an engine. Each raises Reported: what the engine says; CannotConnect,
    ConnectionLost, Unauthorized (4409): there was no login."""

    engine: Engine
    client: "httpx.AsyncClient"

    async def get(self, path: str, **query: object) -> Any:
        return await self.ask("GET", path, query=query)

    async def post(self, path: str, body: object = None, **query: object) -> Any:
        return await self.ask("POST", path, body, query=query)

    async def put(self, path: str, body: object, **query: object) -> Any:
        return await self.ask("PUT", path, body, query=query)

    async def delete(self, path: str, **query: object) -> Any:
        return await self.ask("DELETE", path, query=query)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
    ) -> Any:
        import msgspec

        content = None if body is None else msgspec.json.encode(body)
        with told(self.engine.url):
            answer = await self.client.request(
                method,
                path,
                params=_plain(query or {}),
                content=content,
                headers=self.headers(content is not None),
            )
        return read(answer, self.engine.url)

    def headers(self, body: bool = False) -> dict[str, str]:
        """Raises Unauthorized (4409)."""
        from protocol.errors import Unauthorized

        if not self.engine.token:
            raise Unauthorized(f"log in: `leasehold engine login {self.engine.url}`")
        made = {"authorization": f"Bearer {self.engine.token}"}
        return {**made, "content-type": "application/json"} if body else made


def _plain(query: Mapping[str, object]) -> dict[str, str]:
    """Without what is None; what is true or false in oVirt's words."""
    return {
        name.removesuffix("_"): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }


def read(answer: "httpx.Response", url: str) -> Any:
    """The JSON of an answer; {} where there is none. Raises Reported, ConnectionLost."""
    import msgspec

    from protocol.errors import ConnectionLost
    from protocol.reported import Reported

    if answer.is_success and not answer.content:
        return {}
    try:
        body = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, RecursionError):
        body = None
    if answer.is_success and isinstance(body, dict | list):
        return body
    if answer.is_success or answer.is_redirect:
        raise ConnectionLost(url, 0, f"no engine answers there (status {answer.status_code})")
    raise Reported(_error(answer, body if isinstance(body, dict) else {}))


def _error(answer: "httpx.Response", body: dict[str, Any]) -> dict[str, Any]:
    """As protocol.errors.to_rpc has it, of whatever was answered."""
    from protocol.errors import Error

    if isinstance(error := body.get("error"), dict) and error.get("code") != Error.code:
        return {"code": Error.code, "kind": "Error", "message": "", "data": {}, **error}
    fault = body.get("fault", body)
    told = error if isinstance(error, dict) else fault if isinstance(fault, dict) else {}
    text = told.get("detail") or told.get("message") or body.get("error_description")
    message = str(text or f"status {answer.status_code}")
    code = answer.headers.get(CODE, "")
    number = int(code) if code.isdecimal() else _CODES.get(answer.status_code, 100)
    return {"code": number, "kind": _kind(number), "message": message, "data": {}}


# Of an engine that tells nothing but a status.
_CODES = {400: 1000, 401: 4409, 403: 4410, 404: 4400, 409: 4403, 429: 4411, 503: 4407}


def _kind(code: int) -> str:
    from cli.exits import kind_of
    from protocol.reported import Reported

    return kind_of(Reported({"code": code})).__name__


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn the errors of httpx into ours: CannotConnect, ConnectionLost, BadParameter (1000)."""
    import httpx

    from protocol.errors import BadParameter, CannotConnect, ConnectionLost

    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
        raise BadParameter("--engine", f"{url!r:.200} is no url of an engine: {e}") from None
    except (httpx.ConnectError, httpx.ConnectTimeout) as e:
        raise CannotConnect(url, _reason(e) or "no answer") from None
    except httpx.HTTPError as e:
        raise ConnectionLost(url, 0, _reason(e) or type(e).__name__) from None


def _reason(error: BaseException) -> str:
    """What it says, or what it was made of says: httpx forgets why TLS failed."""
    found: BaseException | None = error
    while found is not None:
        if text := str(found):
            return text
        found = found.__cause__ or found.__context__
    return ""


def _context(ca: str) -> "ssl.SSLContext":
    import ssl

    from protocol.errors import BadParameter

    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as e:
        raise BadParameter("--ca", f"{ca}: {e.strerror or e}") from None


def engine_of(engine: str, ca: str, timeout: float) -> Engine:
    """Raises BadParameter (1000)."""
    from cli.engine_login import chosen

    url, authority, token = chosen(engine, ca)
    return Engine(url, authority, token, timeout)


def reaching(body: Callable[..., Any]) -> Body:
    """The function of an Engine, after its Output, as one that has the OPTIONS instead."""
    return made_of(OPTIONS, engine_of)(body)

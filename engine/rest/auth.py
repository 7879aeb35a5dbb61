"""Who asks: logins with a password, tokens after that.

A token is random; only its hash is kept, with an end. Passwords are checked two at a time, in
worker threads, and after some failures not at all for a while: neither guesses nor a flood of
logins take the engine from others. Source of the form: RFC 6749, as oVirt's SSO speaks it.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

import structlog
import trio
from sqlalchemy import Connection

from engine import passwords
from engine.db import accounts
from engine.rest.api import Api
from engine.rest.limits import Failures
from engine.rest.operation import User
from protocol.errors import TooManyRequests, Unauthorized

log = structlog.get_logger()

CHECKS = 2  # passwords at once: 32 MiB and a core each
PROFILES = ("@internal", "@internalsso", "@internal@internalsso")  # oVirt's names for our users
LONGEST = 256  # characters of a token or a name
# Failures of one address whatever the name, and of one name whatever the address, by this factor.
_ADDRESS, _NAME = 3, 10
WRONG = "the user name or the password is wrong"


@dataclass(frozen=True)
class Issued:
    """expires: seconds since the epoch."""

    token: str
    expires: float


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def user_name(name: str) -> str:
    """Without oVirt's profile: admin@internal is admin."""
    for profile in sorted(PROFILES, key=len, reverse=True):
        name = name.removesuffix(profile)
    return name


class Sessions:
    """Logins and tokens of one application."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._failures = Failures(api.config.login_window, api.clock)
        self._turns = trio.Semaphore(CHECKS)
        self._waiting = 0

    async def login(self, name: str, password: str, address: str) -> Issued:
        """Raises Unauthorized (4409), TooManyRequests (4411), DatabaseGone (4407)."""
        name = user_name(name)[:LONGEST]
        keys = self._keys(name, address)
        self._check(keys)
        user = await self._api.database.read(lambda c: accounts.find_user(c, name))
        kept = user.password if user is not None else None
        if not await self._matches(password, kept, keys):
            log.warning("a login failed", address=address)
            self._api.login_failed(name, address)
            raise Unauthorized(WRONG)
        assert user is not None  # or the password was wrong
        return await self._issue(user.name)

    def _keys(self, name: str, address: str) -> dict[str, int]:
        """What is counted, with the limit of each."""
        limit = self._api.config.login_failures
        return {
            f"both {address} {name}": limit,
            f"address {address}": limit * _ADDRESS,
            f"name {name}": limit * _NAME,
        }

    def _check(self, keys: dict[str, int]) -> None:
        for key, limit in keys.items():
            self._failures.check(key, limit)

    async def _matches(self, password: str, kept: str | None, keys: dict[str, int]) -> bool:
        """What does not is counted. Raises TooManyRequests (4411)."""
        if self._waiting >= self._api.config.logins_at_once:
            raise TooManyRequests(1)
        self._waiting += 1
        try:
            async with self._turns:
                self._check(keys)  # others have failed while this one waited
                matches = await trio.to_thread.run_sync(passwords.matches, password, kept)
                if not matches:
                    for key in keys:
                        self._failures.add(key)
                return matches
        finally:
            self._waiting -= 1

    async def _issue(self, user: str) -> Issued:
        token = secrets.token_urlsafe(32)
        now = self._api.clock()
        issued = Issued(token, now + self._api.config.token_seconds)
        kept = accounts.Token(token_hash(token), user, issued.expires)

        def work(c: Connection) -> None:
            accounts.forget_expired(c, now)
            accounts.add_token(c, kept)

        await self._api.database.write(work)
        return issued

    async def logout(self, token: str) -> None:
        """Nothing, if there is no such token."""
        await self._api.database.write(lambda c: accounts.remove_token(c, token_hash(token)))

    async def user_of(self, header: str | None) -> User:
        """header: Authorization. Raises Unauthorized (4409), DatabaseGone (4407)."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("no token: log in")
        if len(token) > LONGEST:
            raise Unauthorized("the token is not valid")
        wanted, now = token_hash(token), self._api.clock()
        found = await self._api.database.read(lambda c: accounts.find_token(c, wanted))
        # What is compared byte by byte is a hash: who asks cannot choose its bytes.
        if found is None or not hmac.compare_digest(found.hash, wanted) or found.expires <= now:
            raise Unauthorized("the token is not valid, or no longer")
        return User(found.user, found.role)

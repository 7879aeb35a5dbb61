"""One delivery of an event: signed, to where the url leads now, and nowhere else.

    Leasehold-Event: command.changed
    Leasehold-Delivery: 4f2b...              the same at each try
    Leasehold-Signature: t=1790000000,v1=HEX

v1 is the HMAC-SHA256, with the secret of the webhook, of the time, a dot and the body. A receiver
computes it again, and refuses a time that is long ago.
"""

import hashlib
import hmac
import ssl
from collections.abc import Callable

import httpx
import trio

from engine.webhook_urls import Rules, place
from protocol.errors import BadParameter

AGENT = "leasehold"


def signature(secret: str, at: int, body: bytes) -> str:
    """at: seconds since the epoch."""
    made = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={made.hexdigest()}"


async def post(
    url: str,
    headers: dict[str, str],
    body: bytes,
    *,
    rules: Rules,
    timeout: float,
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
) -> str:
    """Deliver it; why that failed, "" if it did not. Only a status of 200 to 299 is no failure.

    No redirect is followed, no proxy is used, and of the answer nothing but the status is read.
    """
    try:
        with trio.fail_after(timeout):
            there = await place(url, rules)
            sent = {**headers, "host": there.header, "user-agent": AGENT}
            async with (
                httpx.AsyncClient(
                    verify=context(), trust_env=False, follow_redirects=False, timeout=timeout
                ) as client,
                client.stream(
                    "POST",
                    there.url,
                    headers=sent,
                    content=body,
                    extensions={"sni_hostname": there.host},
                ) as answer,
            ):
                return "" if answer.is_success else f"it answered with status {answer.status_code}"
    except trio.TooSlowError:
        return f"no answer in {timeout:g} s"
    except BadParameter as e:
        return e.reason
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
        return f"{type(e).__name__}: {e}"[:500]

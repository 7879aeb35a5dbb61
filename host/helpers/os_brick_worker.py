"""Runs in the environment of os-brick: one command, JSON in, JSON out. It imports nothing of ours.

Run as `PYTHON -I os_brick_worker.py connector_info|attach|detach`.
Source: os-brick, os_brick.initiator.connector: get_connector_properties, InitiatorConnector.
"""

import json
import logging
import os
import socket
import sys
from typing import Any

LOCKS = "/run/lock/leasehold-os-brick"
ROOT_HELPER = ""  # we are root, or nothing of this works


def main(command: str) -> None:
    logging.getLogger().addHandler(logging.NullHandler())  # its warnings hide what is wrong
    message = json.load(sys.stdin)
    # What libraries print by chance is neither an answer nor a reason.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    json.dump(_done(command, message), answer)
    answer.close()


def _done(command: str, message: dict[str, Any]) -> Any:
    from os_brick.initiator import connector  # type: ignore[import-not-found]  # noqa: PLC0415

    _set_up()
    if command == "connector_info":
        return connector.get_connector_properties(
            ROOT_HELPER, _address(), multipath=True, enforce_multipath=False
        )
    driver, data = message["driver"], message["data"]
    more = {"do_local_attach": True} if driver == "rbd" else {}
    made = connector.InitiatorConnector.factory(
        driver, ROOT_HELPER, use_multipath=True, enforce_multipath=False, **more
    )
    if command == "attach":
        return made.connect_volume(data)
    made.disconnect_volume(data, message.get("attachment"))
    return {}


def _set_up() -> None:
    """Newer ones want to be told of the configuration; their privileged part runs as we do."""
    import os_brick  # type: ignore[import-not-found]  # noqa: PLC0415
    from os_brick import privileged  # noqa: PLC0415
    from oslo_concurrency import lockutils  # type: ignore[import-not-found]  # noqa: PLC0415
    from oslo_config import cfg  # type: ignore[import-not-found]  # noqa: PLC0415

    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    lockutils.set_defaults(LOCKS)
    if hasattr(os_brick, "setup"):
        os_brick.setup(cfg.CONF)

    # In this process, not in a daemon that sudo would start: we are root.
    privileged.default.set_client_mode(False)


def _address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as e:
        sys.exit(f"{type(e).__name__}: {e}")

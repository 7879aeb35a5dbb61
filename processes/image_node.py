"""An image as QEMU's tools take it: a tree of block nodes, as one argument of theirs.

Source: block nodes as in QEMU's QAPI schema, BlockdevOptions; qemu-img(1), --object secret.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

Node = Mapping[str, Any]

SECRET = "password-secret"  # of a node of ours: the path of a file that holds the secret, no more


def ref(node: Node) -> str:
    """The node as one argument; begins with `json:`, so it is never taken for an option."""
    return "json:" + json.dumps(_with_ids(node))


def secrets(*nodes: Node) -> list[str]:
    """The arguments that make a tool read the secrets of nodes, each from its file."""
    paths = sorted({path for node in nodes for path in _secret_files(node)})
    found = [f"secret,id={_id(path)},file={path.replace(',', ',,')}" for path in paths]
    return [word for one in found for word in ("--object", one)]


def _secret_files(node: Node) -> Iterator[str]:
    for key, value in node.items():
        if key == SECRET:
            yield value
        elif isinstance(value, Mapping):
            yield from _secret_files(value)


def _with_ids(node: Node) -> dict[str, Any]:
    """QEMU's own form: there, a secret is named by the id of an object."""
    inner = {key: _with_ids(value) for key, value in node.items() if isinstance(value, Mapping)}
    named = {SECRET: _id(node[SECRET])} if SECRET in node else {}
    return {**node, **inner, **named}


def _id(path: str) -> str:
    return f"secret-{sha256(path.encode()).hexdigest()[:16]}"

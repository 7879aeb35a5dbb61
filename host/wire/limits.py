"""What a client may use. docs/wire.md lists these figures; a test compares."""

from dataclasses import dataclass, field

from protocol import stomp


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    connections: admitted ones. entering: connections that have not said who they are; of more the
    oldest goes. memory: what all clients together make us keep; beyond it the greediest goes.
    outbox, outbox_frames: what waits for one client to read it; a slower one is dropped.
    handshake: until the client is known, and again until its first frame. frame: from the first
    byte of a frame to its last. stall: until the client takes the next piece of what we send.
    closing: what calls in flight get when the server stops. farewell: for the last frames.
    """

    frame_size: stomp.Limits = field(default_factory=stomp.Limits)
    connections: int = 2000
    entering: int = 256
    subscriptions: int = 100
    batch: int = 100
    in_flight: int = 64
    in_flight_total: int = 1000
    outbox: int = 32 << 20
    outbox_frames: int = 10_000
    memory: int = 256 << 20
    handshake: float = 10.0
    frame: float = 30.0
    stall: float = 30.0
    closing: float = 10.0
    farewell: float = 2.0


DEFAULT = Limits()

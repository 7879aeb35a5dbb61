"""The wire: JSON-RPC over STOMP for engines, monitors and the command line. See docs/wire.md."""

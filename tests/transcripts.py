"""The recorded sessions in tests/vectors/stomp: what clients and a server of vdsm said."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "vectors" / "stomp"
CLIENT, SERVER = "C>S", "S>C"


@dataclass(frozen=True)
class Transcript:
    """One connection. said: who, and the bytes, in the order of the recording."""

    name: str
    said: tuple[tuple[str, bytes], ...]

    def turns(self) -> list[tuple[bytes, bytes]]:
        """What the client said, each with what the server said after it."""
        turns: list[tuple[bytes, bytes]] = []
        for who, data in self.said:
            if who == CLIENT and (not turns or turns[-1][1]):
                turns.append((data, b""))
            elif who == CLIENT:
                turns[-1] = (turns[-1][0] + data, b"")
            else:
                turns[-1] = (turns[-1][0], turns[-1][1] + data)
        return turns

    def all_of(self, who: str) -> bytes:
        return b"".join(data for speaker, data in self.said if speaker == who)


def _read(path: Path) -> list[Transcript]:
    found: list[Transcript] = []
    name, said = path.stem, list[tuple[str, bytes]]()
    for line in path.read_text().splitlines():
        if line.startswith("# probe:"):
            if said:
                found.append(Transcript(name, tuple(said)))
            name, said = line.removeprefix("# probe:").strip(), []
        elif line.startswith((CLIENT, SERVER)):
            said.append((line[:3], json.loads(line[4:]).encode("latin-1")))
    return [*found, Transcript(name, tuple(said))]


SESSIONS = [one for path in sorted(FOLDER.glob("*client*.txt")) for one in _read(path)]
PROBES = _read(FOLDER / "vdsm_raw_probes.txt")

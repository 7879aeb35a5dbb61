"""What lies beside the database: the folder of the state, and the key of what is secret."""

from engine.config import Config
from engine.db.secrets import Key, key_of
from protocol.errors import BadParameter


def make(config: Config) -> None:
    """Nothing in it is for other users. Raises BadParameter (1000)."""
    try:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise BadParameter("folders.state", f"{e.filename}: {e.strerror}") from None


def key(config: Config) -> Key:
    """Made if it is not there. Raises BadParameter (1000)."""
    try:
        return key_of(config.key_file)
    except OSError as e:
        raise BadParameter("database.key_file", f"{config.key_file}: {e.strerror or e}") from None

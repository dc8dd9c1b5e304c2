"""The keys of NATS users: made once, kept in a folder, and what a broker must know of them.

The folder holds `<user>.nk`, a seed each, for its owner's eyes alone; `users.conf`, which a broker's
configuration includes; and `nats.conf`, such a configuration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from libs.contracts.permissions import ANONYMOUS, ANYBODY, Permissions, permissions
from libs.supervisor.errors import UpError, not_writable
from libs.supervisor.files import KeyFile, current, once, write_new

_SEED_BYTES = 32
_RESPONSES_FOR = "2m"
_SUFFIX = ".nk"

USERS_CONF = "users.conf"
"""Who may do what, for the broker."""

NATS_CONF = """# A broker for Perpetua, written once by `perpetua keys`: change it as you like.
# This machine alone reaches it; for others name its address here, and give it TLS.
host: "127.0.0.1"
port: 4222
server_name: perpetua
max_payload: 8MB
feature_flags { js_ack_fc_v2: false }
jetstream { store_dir: %s }
include "users.conf"
"""


def seed_file(folder: Path, user: str) -> Path:
    """Return where a user's seed is."""
    return folder / f"{user}{_SUFFIX}"


def make_keys(folder: Path, *, public_events: bool = False) -> list[KeyFile]:
    """Make what is missing in the folder and say what is there. Raises `UpError`.

    With `public_events` a broker that includes `users.conf` lets who shows no key read public events.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        seeds = [_seed(folder, user) for user in permissions()]
        known = {found.user: found.public for found in seeds if found.user and found.public}
        users = current(folder / USERS_CONF, authorization(known, public_events=public_events), 0o644)
        return [*seeds, users, once(folder / "nats.conf", _nats_conf(folder), 0o644)]
    except OSError as error:
        raise not_writable(folder, error) from error


def _nats_conf(folder: Path) -> str:
    return NATS_CONF % json.dumps(str(folder.absolute() / "streams"))


def make_seeds(folder: Path) -> dict[str, str]:
    """Make the seeds that are missing and return each user's public key. Raises `UpError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = [_seed(folder, user) for user in permissions()]
    except OSError as error:
        raise not_writable(folder, error) from error
    return {key.user: key.public for key in found if key.user and key.public}


def authorization(public: dict[str, str], *, public_events: bool) -> str:
    """Return the part of a broker's configuration that says who may do what.

    `public` holds the public key of each user. The anonymous user has no password that would matter: whoever
    shows nothing is this user.
    """
    lines = [_user(f"nkey: {public[user]}", user, granted) for user, granted in permissions().items()]
    if public_events:
        lines.append(_user(f'user: {ANONYMOUS}, password: ""', ANONYMOUS, ANYBODY))
    first = f"no_auth_user: {ANONYMOUS}\n" if public_events else ""
    return f"{first}authorization {{\n  users: [\n{''.join(lines)}  ]\n}}\n"


def _user(who: str, name: str, granted: Permissions) -> str:
    publish = f"allow: {_list(granted.publish)}" if granted.publish else 'deny: ">"'
    responses = (
        f"      allow_responses: {{ max: {granted.responses}, ttl: {json.dumps(_RESPONSES_FOR)} }}\n"
        if granted.responses
        else ""
    )
    return (
        f"    # {name}\n"
        f"    {{ {who}, permissions: {{\n"
        f"      publish: {{ {publish} }}\n"
        f"      subscribe: {{ allow: {_list(granted.subscribe)} }}\n"
        f"{responses}"
        "    } }\n"
    )


def _list(subjects: Iterable[str]) -> str:
    return f"[{', '.join(json.dumps(subject) for subject in subjects)}]"


def _seed(folder: Path, user: str) -> KeyFile:
    import nkeys  # loads libsodium: not before it is needed

    path = seed_file(folder, user)
    try:
        seed, status = path.read_bytes().strip(), "kept"
    except FileNotFoundError:
        seed, status = nkeys.encode_seed(os.urandom(_SEED_BYTES), prefix=nkeys.PREFIX_BYTE_USER), "created"
        write_new(path, seed + b"\n", 0o600)
    try:
        public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    except (nkeys.NkeysError, ValueError) as error:
        raise UpError(
            f"{path} holds no seed of an NATS user ({error!r}). Remove it and run `perpetua keys` again for "
            "a new one; brokers then need the new users.conf"
        ) from None
    return KeyFile(file=path.name, status=status, user=user, public=public)

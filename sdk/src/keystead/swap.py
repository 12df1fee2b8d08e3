"""Swapping the secret in a file: rotate, write, try, and only then retire the old one.

Whatever stops this, and at whichever step, the file holds a secret that works, and the next run goes on:

1. The file is replaced by itself, so that what would hinder the real replacement does so now.
2. The journal gets an Idempotency-Key, and the portal the request under it. The rotation is `staged` unless told
   otherwise: its old secret lives until the rotation is completed, and so a lost answer locks nobody out.
3. The new secret is written beside the file, to the disk, and takes the file's place by a rename.
4. It is read back from the file and calls the portal. Then `command` runs, and its programs may settle.
5. The rotation is completed with the new secret, which retires the old one.

After a crash before 3 the successor's secret is lost for good. The old one then asks the portal to cancel the rotation;
where that is refused, a person must: SuccessorLost.
"""

from __future__ import annotations

import re
import secrets
import shlex
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keystead import envfile
from keystead.client import Keystead
from keystead.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    Conflict,
    KeysteadError,
    SecretAlreadyShown,
    SuccessorLost,
    Unavailable,
    Unfinished,
)
from keystead.journal import Journal
from keystead.models import Me, Rotation
from keystead.place import Place
from keystead.secret import Secret, has_checksum

COMMAND_SECONDS: Final = 600
_NOT_A_TARGET: Final = re.compile(r"[^A-Za-z0-9._-]")
_ASKED: Final = "asked"

Connect = Callable[[str], Keystead]
Wait = Callable[[float], bool]


@dataclass(frozen=True)
class Way:
    """How a secret is swapped.

    Args:
        names: the variables that hold it.
        request: the body of the rotation: `mode`, `grace_seconds`, `targets`, `quiet_seconds`, `deadline`.
        completes: the old secret is retired at the end.
        command: run before that, when the new secret is in the file.
        settle_seconds: waited between that command and the end.
    """

    names: Sequence[str] = (envfile.DEFAULT_NAME,)
    request: Mapping[str, Any] | None = None
    completes: bool = True
    command: Sequence[str] = ()
    settle_seconds: float = 0

    def body(self) -> dict[str, Any]:
        """Return what is asked of the portal: staged, with this machine as its one target, unless told."""
        return dict(self.request or {"mode": "staged", "targets": [this_machine()]})


@dataclass(frozen=True)
class Swapped:
    """What a swap has come to; `is_complete` where the old secret is retired."""

    key_id: str
    version: int
    rotation_id: str
    is_complete: bool


class Swap:
    """One file's secret, and how to swap it; the journal's lock keeps others from the same."""

    def __init__(self, place: Place, journal: Journal, way: Way, connect: Connect, wait: Wait) -> None:
        """Prepare; nothing is asked or written.

        Args:
            connect: makes a client of a secret.
            wait: waits for so many seconds; true where it was interrupted, and the process is to end.
        """
        self._place = place
        self._journal = journal
        self._way = way
        self._connect = connect
        self._wait = wait

    def who(self) -> Me:
        """Return the key whose secret is in the file, after what a crash left was put in order.

        Raises:
            ApiError, Unavailable: as `Keystead.me` does.
            ConfigurationError: the file has no key.
        """
        self._take_prepared()
        return self._me(self.secret())

    def run(self) -> Swapped:
        """Swap the secret, or finish a swap that was begun before.

        Raises:
            ConfigurationError: the file has no key, or can't be replaced; nothing was asked.
            ApiError: the portal refused; nothing has changed.
            Unavailable: no answer, and so perhaps a rotation: the file's secret works, the next run finds out.
            Unfinished: the new secret is in the file; the old one is accepted still.
            SuccessorLost: a person must help.
        """
        return self.resume() or self._begin()

    def resume(self) -> Swapped | None:
        """Finish a swap that was begun before; None where there is none, or nothing came of it. Raises as `run`."""
        asked = self._journal.get(_ASKED)
        if not isinstance(asked, dict):
            self._place.discard()
            return None
        me = self.who()
        if me.id == asked["key"] and me.secret_version > asked["version"]:
            return self._finish(me.id, me.secret_version, self._rotation_of(asked))
        if me.id == asked["key"] and me.retiring:
            self._undo(me, self._rotation_of(asked))
        self._forget()
        return None

    def take(self, new: Secret, rotation_id: str = "") -> Swapped:
        """Put a secret into the file that came from elsewhere, if it is a newer one of the same key.

        Args:
            new: as it was opened; secret.
            rotation_id: completed at the end, where it is given.

        Raises:
            ConfigurationError: it is no newer secret of the file's key; the file is as it was.
            ApiError, Unavailable: it could not be tried; the file is as it was.
            Unfinished: it is in the file; the old one is accepted still.
        """
        old, theirs = self.secret(), self._me(new)
        if new != old:
            mine = self._me(old)
            if mine.id != theirs.id or theirs.secret_version <= mine.secret_version:
                raise ConfigurationError("This is no newer secret of the key in the file.")
            self._write(new, instead_of=old)
        return self._finish(theirs.id, theirs.secret_version, rotation_id, old=old)

    def _begin(self) -> Swapped:
        old = self.secret()
        me = self._me(old)
        if me.retiring:
            raise SuccessorLost(me.id, until=_until(me))
        self._place.rehearse()
        self._place.prepare(self._place.read())
        asked = self._ask(me)
        try:
            rotation, new = self._rotate(old, asked)
        except SecretAlreadyShown:
            self._undo(me, self._rotation_of(asked))
            self._forget()
            raise Unavailable(
                "The portal's answer was lost, and the rotation taken back. Try again."
            ) from None
        except ApiError:
            # The journal stays: an attempt before this one may have been heard.
            self._place.discard()
            raise
        self._write(new, instead_of=old)
        self._journal.note(rotation=rotation.id)
        return self._finish(me.id, rotation.new_version, rotation.id, old=old)

    def _ask(self, me: Me) -> dict[str, Any]:
        body = {**self._way.body(), "version": me.secret_version}
        once = f"sdk_{secrets.token_hex(16)}"
        asked = {"key": me.id, "version": me.secret_version, "once": once, "body": body}
        self._journal.note(asked=asked, rotation=None)
        return asked

    def _rotate(self, old: Secret, asked: Mapping[str, Any]) -> tuple[Rotation, Secret]:
        """Return the rotation and the new secret, having had it checked for what may be written into a file."""
        with self._connect(old) as client:
            rotated = client.keys.rotate(**asked["body"], idempotency_key=asked["once"])
        if rotated.rotation is None or not has_checksum(rotated.secret.encode()):
            raise Unavailable("The portal's answer has no key.")
        return rotated.rotation, rotated.secret

    def _finish(self, key_id: str, version: int, rotation_id: str, old: Secret | None = None) -> Swapped:
        """Try the secret that is in the file, have it taken up, and retire the old one."""
        new = self.secret()
        self._try(new, version, old)
        self._take_up()
        if self._way.completes and rotation_id:
            self._complete(new, rotation_id)
        self._forget()
        return Swapped(key_id, version, rotation_id, is_complete=self._way.completes and bool(rotation_id))

    def _try(self, new: Secret, version: int, old: Secret | None) -> None:
        try:
            me = self._me(new)
        except AuthenticationError:
            self._put_back(new, old)
            raise
        except (ApiError, Unavailable) as error:
            raise Unfinished(f"The new secret is written, but could not be tried: {error}") from error
        if me.secret_version != version or me.retiring:
            raise SuccessorLost(me.id, until=_until(me))

    def _put_back(self, new: Secret, old: Secret | None) -> None:
        """Write the old secret again, where it works and the new one does not."""
        if old is None:
            return
        self._me(old)
        self._write(old, instead_of=new)

    def _take_up(self) -> None:
        """Run the command that has programs read the file again, and give them time.

        Raises:
            Unfinished: it failed, or the process is to end: both secrets are accepted still.
        """
        if self._way.command:
            _run(self._way.command)
        if self._way.settle_seconds and self._wait(self._way.settle_seconds):
            raise Unfinished("Interrupted; the new secret is written, the old one is accepted still.")

    def _complete(self, new: Secret, rotation_id: str) -> None:
        with self._connect(new) as client:
            try:
                client.rotations.complete(rotation_id)
            except Conflict:
                self._check_over(client, rotation_id)
            except (ApiError, Unavailable) as error:
                raise Unfinished(
                    f"The new secret is in use, the old one is accepted still: {error}"
                ) from error

    def _check_over(self, client: Keystead, rotation_id: str) -> None:
        """Accept that a rotation ended without us, as long as it was not cancelled: then this secret is dead."""
        found = client.rotations.get(rotation_id)
        if found.status != "completed":
            raise Unfinished(f"The rotation {rotation_id} is {found.status}.")

    def _rotation_of(self, asked: Mapping[str, Any]) -> str:
        """Return the id of the rotation that was asked for; empty where the portal no longer says.

        The same request under the same Idempotency-Key gets its first answer, without the secret. It names the
        version that it replaces, and so can't begin another rotation.
        """
        noted = self._journal.get("rotation")
        if isinstance(noted, str):
            return noted
        with self._connect(self.secret()) as client:
            try:
                rotated = client.keys.rotate(**asked["body"], idempotency_key=asked["once"])
            except ApiError:
                return ""
        return rotated.rotation.id if rotated.rotation else ""

    def _undo(self, me: Me, rotation_id: str) -> None:
        """Have the rotation cancelled whose secret was lost, so that the file's is the newest again."""
        lost = SuccessorLost(me.id, rotation_id, until=_until(me))
        if not rotation_id:
            raise lost
        with self._connect(self.secret()) as client:
            try:
                client.rotations.cancel(rotation_id)
            except ApiError:
                raise lost from None

    def _take_prepared(self) -> None:
        """Put the secret into the file that a crash left beside it, if it is the newest: it may be the only copy."""
        content = self._place.prepared()
        if content is None or not self._journal.get(_ASKED):
            return
        found = _secret_in(content, self._way.names)
        current = self.secret()
        if found is not None and found != current and self._is_newest(found):
            self._write(found, instead_of=current)
        self._place.discard()

    def _is_newest(self, secret: Secret) -> bool:
        try:
            me = self._me(secret)
        except AuthenticationError:
            return False
        asked = self._journal.get(_ASKED)
        return bool(me.id == asked["key"]) and not me.retiring

    def _write(self, secret: Secret, *, instead_of: Secret) -> None:
        # The file is read again: a person may have changed another line in the meantime.
        content = self._place.read()
        self._place.replace(envfile.with_secret(content, self._way.names, secret, instead_of=instead_of))

    def secret(self) -> Secret:
        """Return the secret that is in the file.

        Raises:
            ConfigurationError: it has none.
        """
        return envfile.secret_of(self._place.read(), self._way.names)

    def _me(self, secret: Secret) -> Me:
        with self._connect(secret) as client:
            return client.me()

    def _forget(self) -> None:
        self._place.discard()
        self._journal.forget(_ASKED, "rotation")


def this_machine() -> str:
    """Return this machine's name, as a target of a rotation."""
    return _NOT_A_TARGET.sub("-", socket.gethostname())[:64] or "machine"


def _secret_in(content: bytes, names: Sequence[str]) -> Secret | None:
    try:
        return envfile.secret_of(content, names)
    except KeysteadError:
        return None


def _run(command: Sequence[str]) -> None:
    # With nothing of ours to read: the new secret is in the file, for those who may read that.
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unfinished(f"{shlex.quote(command[0])} could not be run: {type(error).__name__}.") from None
    if done.returncode:
        raise Unfinished(
            f"{shlex.quote(command[0])} failed with {done.returncode}; the old secret is accepted still."
        )


def _until(me: Me) -> str:
    ends = [at for at in (me.accepted_until, me.expires_at) if at is not None]
    return min(ends).strftime("%Y-%m-%dT%H:%M:%SZ") if ends else ""

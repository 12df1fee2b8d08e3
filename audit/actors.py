"""Who did it: the identity that a ledger entry names, and the personal data that it seals."""

from dataclasses import dataclass
from typing import Final, Self


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Somebody who acts: a person (`usr_…`), a key (`key_…`) or the product itself (`sys_…`).

    `id` is opaque and goes into the entry in the clear. `name`, `email`, `ip` and `user_agent` are personal
    data and go in sealed; `request_id` ties the entry to the request and to the logs.
    """

    id: str
    name: str = ""
    email: str = ""
    ip: str = ""
    user_agent: str = ""
    request_id: str = ""

    @classmethod
    def system(cls, part: str) -> Self:
        """Return the product's own part, such as `sys_portal`."""
        return cls(id=f"sys_{part}")

    def sealed(self) -> dict[str, str]:
        """Return the personal data to seal, without empty values."""
        fields = {"name": self.name, "email": self.email, "ip": self.ip, "user_agent": self.user_agent}
        return {field: value for field, value in fields.items() if value}


# Who acts where the time has come for something, and nobody else did.
WORKER: Final = Actor.system("worker")

"""What can be wrong with the ledger: one class per answer, a `code` for machines."""

from enum import StrEnum
from typing import ClassVar, Literal


class AuditError(Exception):
    """Something about the ledger is not as it must be."""

    code: ClassVar[str] = "audit_error"


class EntryInvalid(AuditError):
    """An entry, or a part of one, breaks a rule of its format.

    `path` names the place (`data.before.tags[0]`; `entry` for the whole), `problem` says what is wrong
    with it. Neither repeats the refused value, which may be personal.
    """

    code = "entry_invalid"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ChainBroken(AuditError):
    """An entry does not follow the one before it.

    `index` is where the entry was expected; `what` is the member that does not fit.
    """

    code = "chain_broken"

    def __init__(self, index: int, what: Literal["i", "log", "prev", "t"]) -> None:
        super().__init__(f"entry {index} does not follow the one before it: {what}")
        self.index = index
        self.what = what


class CheckpointInvalid(AuditError):
    """A checkpoint's text is not origin, size and root, or speaks of another log."""

    code = "checkpoint_invalid"


class VerifierKeyInvalid(AuditError):
    """A verifier key is malformed, of an unknown algorithm, or ambiguous."""

    code = "verifier_key_invalid"


class NoteError(AuditError):
    """A note can't be trusted."""

    code = "note_error"


class NoteMalformed(NoteError):
    """The bytes are no signed note."""

    code = "note_malformed"


class NoteUntrusted(NoteError):
    """No signature of the note is by a key we trust."""

    code = "note_untrusted"


class NoteForged(NoteError):
    """A signature claims to be by a key we trust, and is not."""

    code = "note_forged"


class ProofInvalid(AuditError):
    """A proof does not prove what it says."""

    code = "proof_invalid"


class ProofMalformed(AuditError):
    """The text is no proof file."""

    code = "proof_malformed"


class ProofError(AuditError):
    """The proof that was asked for can't be given. `detail` is for people."""

    code = "proof_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotSigned(ProofError):
    """No checkpoint says this: the notary has not signed that far yet, or never signed that size."""

    code = "not_signed"


class LedgerUnproven(ProofError):
    """The entries do not lead to what the notary signed: the ledger, or what is stored beside it, was changed."""

    code = "ledger_unproven"


class LedgerUnavailable(AuditError):
    """The ledger can't be written, so nothing was changed."""

    code = "ledger_unavailable"


class ReopeningRefused(AuditError):
    """A ledger goes on in a new epoch only from the last checkpoint that was signed of it."""

    code = "reopening_refused"


class DecryptionFailed(AuditError):
    """What was stored encrypted can't be read."""

    code = "decryption_failed"


class ExportError(AuditError):
    """The log could not be exported. `detail` is for people."""

    code = "export_error"

    def __init__(self, detail: str, *, field: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class ExportInvalid(ExportError):
    """A value is not allowed here."""

    code = "invalid_value"


class ExportCapReached(ExportError):
    """The organization has as many exports, or of such a size, as it may."""

    code = "export_cap_reached"


class ExportStateForbids(ExportError):
    """The export is not in a state that allows this: it is made again, was removed, or is somebody else's to make."""

    code = "state_forbids"


class BundleUnavailable(ExportError):
    """No bundle can be made that would verify. `retry_seconds`: when to ask again, None where that is of no use."""

    code = "bundle_unavailable"

    def __init__(self, detail: str, *, retry_seconds: int | None) -> None:
        super().__init__(detail)
        self.retry_seconds = retry_seconds


class WebhookError(AuditError):
    """The webhook could not be changed.

    `detail` is for people and never repeats what was submitted; `field` says where (`url`, `acts[2]`).
    """

    code = "webhook_error"

    def __init__(self, detail: str, *, field: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class WebhookInvalid(WebhookError):
    """A value is not allowed here."""

    code = "invalid_value"


class WebhookAddressRefused(WebhookInvalid):
    """Nothing is sent to this address."""

    code = "address_refused"


class WebhookStateForbids(WebhookError):
    """The webhook is not in a state that allows this."""

    code = "state_forbids"


class WebhookMade(WebhookStateForbids):
    """This form was sent before, and obeyed."""

    code = "already_done"

    def __init__(self, endpoint_id: str) -> None:
        super().__init__("This form was already sent, and obeyed.")
        self.endpoint_id = endpoint_id


class WebhookCapReached(WebhookStateForbids):
    """The organization has as many webhooks as it may."""

    code = "webhook_cap_reached"


class SupportRefused(AuditError):
    """Support staff can't open or do this. `detail` is for people."""

    code = "support_refused"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Fault(StrEnum):
    """What was done to a ledger."""

    ALTERED = "altered"
    DROPPED = "dropped"
    SWAPPED = "swapped"
    INSERTED = "inserted"


class LedgerFaulty(AuditError):
    """A ledger is not what was once written; this is the first faulty place.

    `index` is the entry's, or where one should be. `what` says in words what does not fit, without personal data.
    """

    code = "ledger_faulty"

    def __init__(self, epoch: int, index: int, fault: Fault, what: str) -> None:
        super().__init__(f"epoch {epoch}, entry {index}: {fault}: {what}")
        self.epoch = epoch
        self.index = index
        self.fault = fault
        self.what = what


class NotaryRefused(AuditError):
    """The notary does not run, because it could sign what it must not; the message says what to do."""

    code = "notary_refused"

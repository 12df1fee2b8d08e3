"""Handing out the offline bundle without keeping it: recorded before a byte leaves."""

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from audit.exports.bundle import Bundle, open_bundle


def hand_out_bundle(
    organization_id: str, *, epoch: int | None = None, old_note: str = "", actor: Actor
) -> Bundle:
    """Begin a bundle of one epoch's log, the newest unless told, and record `export.made`.

    Nothing of it may be handed out before the transaction is committed: then no export goes unrecorded. It holds a
    connection and a snapshot until it is closed or read to its end; its bytes hold personal data.

    Raises `BundleUnavailable` where nothing of the log is signed yet, or an erasure is not.
    """
    bundle = open_bundle(organization_id, epoch=epoch, old_note=old_note)
    try:
        with ledger.recording(organization_id, actor) as entry:
            told = {"what": "log", "format": "bundle", "epoch": bundle.contents.epoch}
            entry(
                Act.EXPORT_MADE,
                target=organization_id,
                data=told | {"entries": bundle.contents.size},
            )
    except BaseException:
        bundle.close()
        raise
    return bundle

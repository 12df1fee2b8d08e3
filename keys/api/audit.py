"""`/v1/audit`: an organization's ledger for programs: entries, what the notary signed, proofs, and the whole of it."""

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import Annotated, Any, Final

from django.http import Http404, HttpResponse, StreamingHttpResponse
from ninja import Path, Query, Router
from pydantic import BaseModel, ConfigDict, Field

from audit import access, paging, searching
from audit.access import Found, Place
from audit.acts import named
from audit.entry import MAX_INTEGER
from audit.errors import BundleUnavailable, LedgerUnproven, NotSigned
from audit.exports.bundle import Bundle
from audit.exports.facts import facts
from audit.models import Checkpoint, Entry
from audit.models.checkpoint import CheckpointQuerySet
from audit.proofs import proving
from audit.proofs.proof import SUFFIX
from audit.searching import Wanted
from audit.services import hand_out_bundle
from audit.signatures import verifier_keys
from keys.api import docs, running, streaming
from keys.api.answers import Answer, PageOut
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import PageQuery, check_names
from keys.api.problems import Problem, invalid
from keys.api.requests import NO_NUL
from keys.api.times import Moment, Time
from keys.callers import Caller
from keys.errors import Forbidden

router = Router(tags=["Security log"])
SCOPE: Final = "audit:read"
TEXT: Final = "text/plain; charset=utf-8"
ZIP: Final = "application/zip"
# What the notary promises, and how long it is worth to wait before one asks again.
SIGNED_WITHIN_SECONDS: Final = 10
Epoch = Annotated[
    int | None,
    Field(ge=1, le=32_767, description="Which log: 2 after a first reopening. Default: the newest."),
]
Index = Annotated[int, Path(ge=0, le=MAX_INTEGER, description="The entry's index in its log, from 0.")]
Size = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Word = Annotated[str, Field(max_length=64, pattern=NO_NUL)]


class EntriesQuery(PageQuery):
    """Which entries."""

    model_config = ConfigDict(populate_by_name=True)

    actor: Word = Field(default="", description="The id of who acted: `usr_…`, `key_…` or `sys_…`.")
    action: Word = Field(
        default="", description="An act such as `key.revoked`, or all of a subject: `key.*`."
    )
    target: Word = Field(default="", description="The id of what was changed.")
    since: Time | None = Field(default=None, alias="from")
    until: Time | None = Field(default=None, alias="to", description="Not included.")
    request_id: Annotated[str, Field(max_length=128, pattern=NO_NUL)] = Field(
        default="", description="`X-Request-Id` of the call that caused it."
    )
    q: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = Field(
        default="",
        description="Words that the entry holds, personal data among them; phrases in quotation marks. The last word"
        " may go on.",
    )


class EpochQuery(BaseModel):
    """Which log."""

    epoch: Epoch = None


class CheckpointQuery(EpochQuery):
    """Which checkpoint."""

    size: Size | None = Field(default=None, description="Of so many entries. Default: the newest.")


class ConsistencyQuery(EpochQuery):
    """Between which checkpoints."""

    model_config = ConfigDict(populate_by_name=True)

    older: Size = Field(alias="from", description="The size of the checkpoint that you hold.")
    newer: Size = Field(alias="to", description="The size of a later checkpoint.")


class BundleQuery(EpochQuery):
    """Which bundle."""

    old_size: Size | None = Field(
        default=None, description="Put the older checkpoint of this size into it, as `old-checkpoint`."
    )


class EntryOut(Answer):
    """An entry. `personal` is what it sealed, null where that was erased; `readable` is false for damaged bytes."""

    epoch: int
    index: int
    at: Moment
    act: str
    actor: str
    target: str
    request_id: str
    summary: str
    data: dict[str, Any]
    personal: dict[str, str | None]
    readable: bool


class EntriesOut(PageOut[EntryOut]):
    """A page of entries, the newest first. A search may answer with a short page: go on while there is a cursor."""


class EntryDetailOut(EntryOut):
    """An entry, with its bytes: `leaf` is what is hashed, character for character. Hashes are in base64."""

    log: str
    prev: str
    leaf: str
    leaf_hash: str
    sealed: dict[str, str]


class ConsistencyOut(Answer):
    """That the log of `to` entries begins with that of `from` entries (RFC 6962); hashes are in base64."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    epoch: int
    older: int = Field(serialization_alias="from")
    newer: int = Field(serialization_alias="to")
    hashes: list[str]


def _plain(status: str, description: str, content_type: str = "text/plain") -> dict[str, Any]:
    schema = {"type": "string"} | ({"format": "binary"} if content_type == ZIP else {})
    return {status: {"description": description, "content": {content_type: {"schema": schema}}}}


@router.get(
    "/audit/entries",
    auth=Bearer(SCOPE),
    response=EntriesOut,
    operation_id="list_entries",
    summary="Search the security log",
    openapi_extra=docs.read(SCOPE, 403),
)
def entry_list(request: ApiRequest, query: Query[EntriesQuery]) -> HttpResponse:
    """The newest first. Each filter narrows; the time that a search takes does not grow with the log."""
    check_names(request, _NAMES)
    acts = _acts(query.action)
    before = _place(query.cursor) if query.cursor is not None else searching.LAST

    def act(_caller: Caller) -> EntriesOut:
        organization_id = _organization(request)
        wanted = Wanted(
            text=query.q,
            actor=query.actor,
            acts=acts,
            target=query.target,
            request_id=query.request_id,
            since=query.since,
            until=query.until,
        )
        found = searching.find(wanted, most=query.limit + 1, before=before)
        shown = found.places[: query.limit]
        following = shown[-1] if len(found.places) > query.limit else found.reached
        return EntriesOut(
            data=[EntryOut(**_entry(each)) for each in _found(organization_id, shown)],
            next_cursor=paging.written(following) if following else None,
        )

    return running.read(request, act)


@router.get(
    "/audit/entries/{index}",
    auth=Bearer(SCOPE),
    response=EntryDetailOut,
    operation_id="get_entry",
    summary="See an entry",
    openapi_extra=docs.read(SCOPE, 403, 404),
)
def entry_get(request: ApiRequest, index: Index, query: Query[EpochQuery]) -> HttpResponse:
    """With the bytes that the tree is made of: their SHA-256 after a zero byte is the leaf hash."""
    check_names(request, ("epoch",))

    def act(_caller: Caller) -> EntryDetailOut:
        organization_id = _organization(request)
        place = (_epoch(organization_id, query.epoch), index)
        for found in _found(organization_id, [place]):
            return _detail(found)
        raise Http404

    return running.read(request, act)


@router.get(
    "/audit/entries/{index}/proof",
    auth=Bearer(SCOPE),
    operation_id="get_proof",
    summary="Prove an entry",
    openapi_extra=docs.read(
        SCOPE, 403, 404, 409, answers=_plain("200", "A proof file, `c2sp.org/tlog-proof@v1`.")
    ),
)
def entry_proof(request: ApiRequest, index: Index, query: Query[EpochQuery]) -> HttpResponse:
    """That it stands in the log that the notary signed, checked before it is answered. 409: not signed yet."""
    check_names(request, ("epoch",))

    def act(_caller: Caller) -> tuple[str, str]:
        organization_id = _organization(request)
        place = (_epoch(organization_id, query.epoch), index)
        if not paging.entries_at(Entry.objects.of(organization_id), [place]):
            raise Http404
        with _foreseen():
            text = proving.inclusion_proof(organization_id, place)
        return text, f"{organization_id}-{paging.written(place)}{SUFFIX}"

    return _text(request, act)


@router.get(
    "/audit/checkpoint",
    auth=Bearer(SCOPE),
    operation_id="get_checkpoint",
    summary="The newest checkpoint",
    openapi_extra=docs.read(
        SCOPE, 403, 404, 409, answers=_plain("200", "A signed note: origin, size and root, signatures.")
    ),
)
def checkpoint_get(request: ApiRequest, query: Query[CheckpointQuery]) -> HttpResponse:
    """Keep it: whoever holds a checkpoint can tell that the log was changed later. 409: nothing is signed yet."""
    check_names(request, tuple(CheckpointQuery.model_fields))

    def act(_caller: Caller) -> tuple[str, str]:
        organization_id = _organization(request)
        if query.size is not None:
            epoch = _epoch(organization_id, query.epoch)
            found = _checkpoints(organization_id, epoch).filter(size=query.size).first()
            if found is None:
                raise Http404
        else:
            found = _checkpoints(organization_id, query.epoch).newest()
        if found is None:
            raise _unsigned("The notary has not signed this log yet.")
        return found.note, f"{organization_id}-{paging.written((found.epoch, found.size))}.checkpoint"

    return _text(request, act)


@router.get(
    "/audit/consistency",
    auth=Bearer(SCOPE),
    response=ConsistencyOut,
    by_alias=True,
    operation_id="get_consistency",
    summary="Prove that the log only grew",
    openapi_extra=docs.read(SCOPE, 403, 409),
)
def consistency_get(request: ApiRequest, query: Query[ConsistencyQuery]) -> HttpResponse:
    """Between two checkpoints of one log. 409: one of these sizes was never signed."""
    check_names(request, ("from", "to", "epoch"))
    if query.older > query.newer:
        raise invalid("from", "The older checkpoint is the smaller one.")

    def act(_caller: Caller) -> ConsistencyOut:
        organization_id = _organization(request)
        epoch = _epoch(organization_id, query.epoch)
        with _foreseen():
            hashes = proving.consistency_proof(organization_id, epoch, query.older, query.newer)
        return ConsistencyOut(
            epoch=epoch, older=query.older, newer=query.newer, hashes=[_b64(each) for each in hashes]
        )

    return running.read(request, act)


@router.get(
    "/audit/keys",
    auth=Bearer(SCOPE),
    operation_id="list_verifier_keys",
    summary="The log's verifier keys",
    openapi_extra=docs.read(
        SCOPE, 403, 404, answers=_plain("200", "One a line, the oldest first; retired ones stay.")
    ),
)
def verifier_key_list(request: ApiRequest, query: Query[EpochQuery]) -> HttpResponse:
    """Note them once and elsewhere: what is downloaded together proves nothing."""
    check_names(request, ("epoch",))

    def act(_caller: Caller) -> tuple[str, str]:
        organization_id = _organization(request)
        vkeys = verifier_keys.published(organization_id, _epoch(organization_id, query.epoch))
        if not vkeys:
            raise Http404
        return "".join(f"{vkey}\n" for vkey in vkeys), f"{organization_id}.vkeys"

    return _text(request, act)


@router.get(
    "/audit/bundle",
    auth=Bearer(SCOPE),
    operation_id="get_bundle",
    summary="Download the offline bundle",
    openapi_extra=docs.read(
        SCOPE,
        403,
        404,
        409,
        answers=_plain("200", "A zip, streamed: `keystead ledger verify` checks it.", ZIP),
    ),
)
def bundle_get(request: ApiRequest, query: Query[BundleQuery]) -> StreamingHttpResponse:
    """Every entry up to the newest checkpoint with its personal data, recorded as `export.made`. It may be large."""
    check_names(request, tuple(BundleQuery.model_fields))

    organization_id = request.auth.key.organization_id
    pieces = streaming.held(organization_id, lambda: _bundle(request, query))
    disposition = f'attachment; filename="{organization_id}.zip"'
    return StreamingHttpResponse(
        pieces,
        content_type=ZIP,
        headers={"Cache-Control": "no-store", "Content-Disposition": disposition},
    )


_NAMES: Final = ("actor", "action", "target", "from", "to", "request_id", "q", *PageQuery.model_fields)


def _organization(request: ApiRequest) -> str:
    """Return whose log the key reads; raises `Forbidden` for one that is bound to a part of the organization."""
    if request.auth.project.depth > 0:
        raise Forbidden(
            "The log tells of the whole organization: only keys of its first project may read it."
        )
    return request.auth.key.organization_id


def _text(request: ApiRequest, act: Callable[[Caller], tuple[str, str]]) -> HttpResponse:
    """Answer with a text, byte for byte, and the name of the file to keep it in."""
    text, name = running.begin(request, act)
    headers = {"Content-Disposition": f'inline; filename="{name}"'}
    response = HttpResponse(text.encode(), content_type=TEXT, headers=headers)
    # A signed text with a part hidden would be no signed text.
    response.shows_secret = True  # type: ignore[attr-defined]
    return response


def _bundle(request: ApiRequest, query: BundleQuery) -> Iterator[bytes]:
    """Return a bundle that is on record; where that fails it is closed, and never handed out."""
    with ExitStack() as stack:

        def act(caller: Caller) -> Bundle:
            organization_id = _organization(request)
            old_note = _old_note(organization_id, query)
            try:
                found = hand_out_bundle(organization_id, epoch=query.epoch, old_note=old_note, actor=caller)
            except BundleUnavailable as error:
                wait = {"Retry-After": str(error.retry_seconds)} if error.retry_seconds else {}
                raise Problem(HTTPStatus.CONFLICT, error.code, error.detail, wait) from error
            stack.callback(found.close)
            return found

        bundle = running.begin(request, act)
        stack.pop_all()
    return bundle


def _old_note(organization_id: str, query: BundleQuery) -> str:
    if query.old_size is None:
        return ""
    epoch = _epoch(organization_id, query.epoch)
    found = _checkpoints(organization_id, epoch).filter(size=query.old_size).first()
    if found is None:
        raise Http404
    return found.note


@contextmanager
def _foreseen() -> Iterator[None]:
    """Answer 409 where there is no proof, whether it is to come or the ledger was tampered with."""
    try:
        yield
    except NotSigned as error:
        raise _unsigned(error.detail) from error
    except LedgerUnproven as error:
        raise Problem(HTTPStatus.CONFLICT, error.code, error.detail) from error


def _unsigned(detail: str) -> Problem:
    return Problem(HTTPStatus.CONFLICT, NotSigned.code, detail, {"Retry-After": str(SIGNED_WITHIN_SECONDS)})


def _acts(action: str) -> tuple[str, ...]:
    """Return the acts that a filter takes; raises a `Problem` with 422 for one that there is not."""
    try:
        return named(action) if action else ()
    except ValueError:
        raise invalid("action", "There is no such act.") from None


def _place(cursor: str) -> Place:
    try:
        return paging.read(cursor)
    except Http404:
        raise invalid("cursor", "This is no cursor of this list.") from None


def _epoch(organization_id: str, given: int | None) -> int:
    if given is not None:
        return given
    newest = Entry.objects.of(organization_id).newest_first().only("epoch", "index").first()
    return newest.epoch if newest else 1


def _checkpoints(organization_id: str, epoch: int | None) -> CheckpointQuerySet:
    found = Checkpoint.objects.of(organization_id)
    return found if epoch is None else found.filter(epoch=epoch)


def _found(organization_id: str, places: Sequence[Place]) -> list[Found]:
    """Return what stands at these places, in their order."""
    entries = paging.entries_at(Entry.objects.of(organization_id), places)
    return access.opened(organization_id, entries)


def _entry(found: Found) -> dict[str, Any]:
    """Return an entry's facts as they are everywhere, with the time as this API writes it."""
    return facts(found) | {"at": found.entry.at}


def _detail(found: Found) -> EntryDetailOut:
    entry, parsed = found.entry, found.parsed
    return EntryDetailOut(
        **_entry(found),
        log=parsed.log if parsed else "",
        prev=_b64(parsed.prev) if parsed else "",
        leaf=bytes(entry.leaf).decode("utf-8", "backslashreplace"),
        leaf_hash=_b64(entry.leaf_hash()),
        sealed=dict(parsed.sealed) if parsed else {},
    )


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()

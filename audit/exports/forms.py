"""Asking for an export: the form, what the log's filters leave in words, and how an export's file is called."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django import forms
from django.utils.text import slugify

from audit import ports
from audit.errors import ExportError
from audit.forms import LAST, MINUTE, PERIOD, LogFilter
from audit.models import Checkpoint, Export, Format
from audit.services import ExportDraft

SUFFIXES: Final = {Format.BUNDLE: "ledger-{}.zip", Format.CSV: "log-{}.csv", Format.JSONL: "log-{}.jsonl"}
TYPES: Final = {
    Format.BUNDLE: "application/zip",
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSONL: "application/jsonl",
}
WORDS: Final = {
    "q": "words",
    "last": "when",
    "since": "from",
    "until": "to",
    "who": "who",
    "act": "action",
    "target": "what",
    "request": "request",
}


class ExportForm(forms.Form):
    """Which format; of which log, and beside which older checkpoint, where it is a bundle."""

    format = forms.ChoiceField(choices=Format.choices)
    epoch = forms.TypedChoiceField(required=False, coerce=int, empty_value=None, label="Log")
    old_note = forms.CharField(
        required=False,
        strip=False,
        max_length=5000,
        label="A checkpoint that you kept",
        help_text="Put into the bundle, so that whoever checks it sees that the log only grew since.",
        widget=forms.Textarea(attrs={"rows": 5, "class": "input mono", "spellcheck": "false"}),
    )

    def __init__(self, data: Any, checkpoints: Sequence[Checkpoint]) -> None:
        super().__init__(data, auto_id="export-%s")
        epochs = self.fields["epoch"]
        assert isinstance(epochs, forms.ChoiceField)  # noqa: S101 - for the type checker
        epochs.choices = [(each.epoch, f"Epoch {each.epoch}: {each.size:,} entries") for each in checkpoints]

    def draft(self, filters: Mapping[str, str]) -> ExportDraft:
        """Return what is asked for, once it is valid."""
        asked = self.cleaned_data
        return ExportDraft(
            format=Format(asked["format"]), filters=filters, epoch=asked["epoch"], old_note=asked["old_note"]
        )

    def refuse(self, error: ExportError) -> None:
        """Put an error where it belongs."""
        self.add_error(error.field if error.field in self.fields else None, error.detail)


def filters(form: LogFilter) -> dict[str, str]:
    """Return the filters that are set, as they mean the same tomorrow: “the last hour” begins at a minute."""
    chosen, wanted = form.chosen, form.wanted()
    if chosen.pop("last", "") and wanted and wanted.since:
        chosen["since"] = f"{wanted.since:{MINUTE}}"
    return chosen


def words(filters: Mapping[str, str], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return filters in words, (label, value); `names` are of people, by id."""
    told = {
        name: text.replace("T", " ") if name in PERIOD else text for name, text in filters.items() if text
    }
    if told.get("who"):
        told["who"] = names.get(told["who"]) or told["who"]
    if told.get("last"):
        told["last"] = LAST.get(told["last"], (told["last"],))[0]
    return [(label, told[name]) for name, label in WORDS.items() if name in told]


def filename(export: Export, at: datetime) -> str:
    """Return what the file is called: the organization, what it is, and the day it was made."""
    name = "".join(of(export.organization_id) for of in ports.organization_name)
    suffix = SUFFIXES[Format(export.format)].format(f"{at:%Y-%m-%d}")
    return f"{slugify(name)[:60] or 'organization'}-{suffix}"

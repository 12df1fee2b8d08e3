"""The form of a recipient's public key."""

from django import forms
from django.http import QueryDict

from keys import sealing
from keys.services.recipients import MAX_NAME


class RecipientForm(forms.Form):
    name = forms.CharField(
        label="Name", max_length=MAX_NAME, help_text="Where its private key is, such as vault-production."
    )
    public_key = forms.CharField(
        label="Public key of X25519",
        max_length=sealing.MAX_TEXT,
        strip=True,
        widget=forms.Textarea({"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
        help_text="The PEM that begins with BEGIN PUBLIC KEY, or the key's 32 bytes in base64.",
    )

    def __init__(self, data: QueryDict | None = None) -> None:
        is_private = data is not None and sealing.is_private(data.get("public_key") or "")
        if data is not None and is_private:
            # It came too far already: at least it is not sent back.
            data = data.copy()
            data["public_key"] = ""
        super().__init__(data)
        if is_private:
            self.fields["public_key"].error_messages["required"] = sealing.NEVER_PASTE

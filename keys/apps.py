from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = "API keys"

    def ready(self) -> None:
        # Models can't be imported before the apps are ready.
        from audit import ports, redaction  # noqa: PLC0415
        from audit.acts import Act  # noqa: PLC0415
        from keys import erasing, remedies, secret, settling, subjects  # noqa: PLC0415
        from keys.services import auto_rotation  # noqa: PLC0415

        redaction.filters.append(secret.redact)
        settling.register()
        ports.webhook_facts[Act.ROTATION_STARTED] = auto_rotation.sealed_facts
        ports.subjects.append(subjects.subjects)
        ports.on_erased.append(erasing.forget_copies)
        ports.revocable.append(remedies.revocable)

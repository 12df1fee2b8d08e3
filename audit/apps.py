from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit"

    def ready(self) -> None:
        # Models can't be imported before the apps are ready.
        from audit import checks, mailing, ports, redaction, subjects  # noqa: F401, PLC0415
        from audit.tasks import search, webhooks  # noqa: PLC0415
        from audit.webhooks import signing  # noqa: PLC0415

        redaction.filters.append(signing.redact)
        ports.on_appended += [mailing.on_appended, search.on_appended]
        ports.on_heard += [webhooks.deliver_soon]
        ports.subjects.append(subjects.subjects)

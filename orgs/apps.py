from django.apps import AppConfig


class OrgsConfig(AppConfig):
    name = "orgs"
    verbose_name = "Organizations"

    def ready(self) -> None:
        # Models can't be imported before the apps are ready.
        from audit import ports  # noqa: PLC0415
        from orgs import recipients, step_up  # noqa: PLC0415

        ports.recipients.append(recipients.recipients)
        ports.project_recipients.append(recipients.project_recipients)
        ports.organization_name.append(recipients.organization_name)
        ports.step_up.append(step_up.needed)

from django.apps import AppConfig


class OrgsConfig(AppConfig):
    name = "orgs"
    verbose_name = "Organizations"

    def ready(self) -> None:
        # Models can't be imported before the apps are ready.
        from django.contrib.auth.signals import user_logged_out  # noqa: PLC0415

        from audit import ports  # noqa: PLC0415
        from orgs import erasing, recipients, step_up, support, visits  # noqa: PLC0415

        ports.recipients.append(recipients.recipients)
        ports.project_recipients.append(recipients.project_recipients)
        ports.organization_name.append(recipients.organization_name)
        ports.person.append(erasing.person)
        ports.on_person_erased.append(erasing.forget_invitations)
        ports.step_up.append(step_up.needed)
        ports.support.append(support.Directory())
        user_logged_out.connect(visits.close_at_sign_out)

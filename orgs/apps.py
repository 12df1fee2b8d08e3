from django.apps import AppConfig


class OrgsConfig(AppConfig):
    name = "orgs"
    verbose_name = "Organizations"

    def ready(self) -> None:
        # Models can't be imported before the apps are ready.
        from audit import ports  # noqa: PLC0415
        from orgs import step_up  # noqa: PLC0415

        ports.step_up.append(step_up.needed)

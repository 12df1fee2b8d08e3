from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = "API keys"

    def ready(self) -> None:
        # Models can't be imported before the apps are ready.
        from keys import settling  # noqa: PLC0415

        settling.register()

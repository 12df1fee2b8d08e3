from django.urls import path, register_converter

from audit import paging, views


class PlaceConverter:
    """Where an entry stands: `41`, or `2-41` in the second epoch."""

    regex = "(?:[0-9]{1,4}-)?[0-9]{1,18}"

    def to_python(self, value: str) -> tuple[int, int]:
        return paging.read(value)

    def to_url(self, value: tuple[int, int]) -> str:
        return paging.written(value)


register_converter(PlaceConverter, "place")

app_name = "audit"
urlpatterns = [
    path("log", views.log, name="log"),
    path("log/<place:place>", views.entry, name="entry"),
]

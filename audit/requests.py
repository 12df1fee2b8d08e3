"""The request as the portal's middleware leaves it, for the type checker."""

from django.http import HttpRequest


class Request(HttpRequest):
    """A request with an id and the caller's address behind the trusted proxies."""

    request_id: str
    client_ip: str

"""Copy-ready pieces for the page that shows a secret: where to put it, and how to send it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of text to copy, and the word on its tab. `text` may hold the secret."""

    id: str
    label: str
    text: str


def of(secret: str) -> list[Snippet]:
    """Return the snippets for a secret; those that a person would save or paste hold it in full."""
    return [
        Snippet("curl", "curl", _CURL.format(secret=secret)),
        Snippet("python", "Python", _PYTHON),
        Snippet("env", ".env", f"API_KEY={secret}"),
        Snippet("nginx", "nginx", _NGINX.format(secret=secret)),
    ]


# The secret goes in by standard input, so that it stays out of the process list.
_CURL = """\
curl -H @- https://api.example.com/ <<'END'
Authorization: Bearer {secret}
END"""
_PYTHON = """\
import os
import urllib.request

request = urllib.request.Request(
    "https://api.example.com/",
    headers={"Authorization": f"Bearer {os.environ['API_KEY']}"},
)
with urllib.request.urlopen(request, timeout=10) as answer:
    print(answer.status)"""
_NGINX = """\
location /api/ {{
    proxy_pass https://api.example.com/;
    proxy_ssl_server_name on;
    proxy_set_header Authorization "Bearer {secret}";
}}"""

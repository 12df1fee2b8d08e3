"""The commands with which a customer checks a ledger without us: for the page, and for the test that runs each. Pure.

They are POSIX shell, with programs that others wrote. All run in one folder, in the order of `Commands`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from shlex import quote
from typing import Final

# The DER of an Ed25519 public key before its 32 bytes (RFC 8410, section 4), as printf writes it everywhere.
DER: Final = r"\060\052\060\005\006\003\053\145\160\003\041\000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose ledger it is, and an entry to try it on: `index` ≥ 1, `field` one that it sealed ("" for none)."""

    base_url: str
    vkeys: Sequence[str]
    index: int
    field: str


@dataclass(frozen=True, slots=True)
class Commands:
    """What the page shows, each under its name."""

    pin: str
    download: str
    proof: str
    install: str
    verify: str
    verify_older: str
    go_install: str
    go_build: str
    go_verify: str
    keep: str
    cron: str
    unpack: str
    note: str
    entry: str
    chain: str
    inclusion: str
    go_proof: str
    opening: str

    def all(self) -> Sequence[tuple[str, str]]:
        """Return (name, text) of each, in the order in which they work."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


def commands(place: Place) -> Commands:
    """Return the commands for one ledger."""
    get = 'curl -fsS -H "Authorization: Bearer $KEYSTEAD_KEY"'
    pinned = "".join(f" \\\n  --vkey {quote(vkey)}" for vkey in place.vkeys)
    audit = f"{place.base_url}/v1/audit"
    return Commands(
        pin=f"printf '%s\\n' {' '.join(map(quote, place.vkeys))} > keystead.vkeys",
        download=f"{get} {audit}/bundle -o bundle.zip",
        proof=f"{get} {audit}/entries/{place.index}/proof -o proof",
        install="python3 -m venv check\ncheck/bin/pip install 'keystead[crypto]'",
        verify=f"check/bin/keystead ledger verify bundle.zip{pinned}\necho $?",
        verify_older=f"check/bin/keystead ledger verify bundle.zip{pinned} --checkpoint OLDER\necho $?",
        go_install="sudo apt-get install golang-go golang-golang-x-mod-dev",
        go_build="GO111MODULE=off GOPATH=/usr/share/gocode go build -o check_ledger check_ledger.go",
        go_verify=f"./check_ledger{pinned.replace('--vkey', '-vkey')} \\\n  bundle.zip\necho $?",
        keep=_keep(f"{get} \\\n  {audit}/checkpoint"),
        cron="*/10 * * * *  cd $HOME/keystead && KEYSTEAD_KEY=$(cat key) sh keep-checkpoint",
        unpack="unzip -o -q bundle.zip -d bundle\ncd bundle",
        note=_note(place.vkeys[-1]),
        entry=_entry(place.index),
        chain=CHAIN,
        inclusion=INCLUSION,
        go_proof=f"../check_ledger -vkey {quote(place.vkeys[-1])} \\\n  -entry entry ../proof",
        opening=_opening(place.field or "email"),
    )


def _keep(fetch: str) -> str:
    # Under another name until it is whole; at the same second the same one comes again.
    return f'''#!/bin/sh
set -e
{fetch} -o new
mv new "checkpoint-$(date -u +%Y%m%dT%H%M%SZ)"'''


def _note(vkey: str) -> str:
    return rf"""VKEY={quote(vkey)}
printf '{DER}' > key
printf %s "$VKEY" | cut -d+ -f3- | base64 -d | tail -c 32 >> key
head -n 3 checkpoint > text
grep '^— ' checkpoint | while read -r dash name line; do
  printf %s "$line" | base64 -d > signed
  if [ "$(head -c 4 signed | od -An -tx1 | tr -d ' ')" = "$(printf %s "$VKEY" | cut -d+ -f2)" ]; then
    tail -c 64 signed > signature
  fi
done
openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in text -sigfile signature"""


def _entry(index: int) -> str:
    return rf"""N={index}
sed -n "$((N + 1))p" entries.jsonl | tr -d '\n' > entry
{{ printf '\000'; cat entry; }} | sha256sum
jq . entry"""


CHAIN: Final = r"""sed -n "${N}p" entries.jsonl | tr -d '\n' > before
{ printf '\000'; cat before; } | openssl dgst -sha256 -binary | base64
jq -r .prev entry"""

# RFC 9162, section 2.1.3.2: from the leaf up, with a sibling to the left where the place is odd or the last.
INCLUSION: Final = r"""node() { { printf '\001'; printf %s "$1" | base64 -d; printf %s "$2" | base64 -d; } |
  openssl dgst -sha256 -binary | base64; }
sed '1,/^$/d' ../proof > signed-root
HASH=$({ printf '\000'; cat entry; } | openssl dgst -sha256 -binary | base64)
I=$N
LAST=$(($(sed -n 2p signed-root) - 1))
for SIBLING in $(sed '1,2d;/^$/,$d' ../proof); do
  if [ $((I % 2)) = 1 ] || [ "$I" = "$LAST" ]; then
    HASH=$(node "$SIBLING" "$HASH")
    while [ $((I % 2)) = 0 ] && [ "$I" != 0 ]; do
      I=$((I / 2))
      LAST=$((LAST / 2))
    done
  else
    HASH=$(node "$HASH" "$SIBLING")
  fi
  I=$((I / 2))
  LAST=$((LAST / 2))
done
echo "$LAST $HASH"
echo "0 $(sed -n 3p signed-root)"
""".strip()


def _opening(field: str) -> str:
    return rf"""FIELD={field}
jq -c "select(.i == $N and .field == \"$FIELD\")" sealed.jsonl > opening
SALT=$(jq -r .salt opening | base64 -d | od -An -v -tx1 | tr -d ' \n')
{{ jq -j .field opening; printf '\000'; jq -j .value opening; }} |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$SALT" -binary | base64
jq -r ".sealed.$FIELD" entry"""

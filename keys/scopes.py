"""Scopes: what a key may do, and boolean queries over them. Spec KEYS §3, §4, §7.

A scope is `resource:action` or `action:resource`. Only a second segment that is `*` as a whole is a wildcard;
any other star is an ordinary character, so that nobody can smuggle a pattern into a comparison.

What the catalogue does not know counts as risk `admin`, and so does a wildcard that the catalogue does not
declare: it speaks for scopes that do not exist yet, and a key must not grow when the operator adds one.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from keys.errors import Invalid
from keys.secret import Kind
from orgs.roles import EVERY_RISK, Risk

SCOPE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}:[a-z*][a-z0-9_*-]{0,31}")
BREAK_GLASS: Final = "keys:breakglass"
RESERVED: Final = frozenset(
    {
        "keys:read",
        "keys:write",
        "keys:rotate",
        "keys:revoke",
        "keys:verify",
        BREAK_GLASS,
        "usage:read",
        "audit:read",
        "webhooks:write",
        "approvals:request",
    }
)
MAX_SCOPES: Final = 64
MAX_QUERY: Final = 1_000
MAX_DEPTH: Final = 20

_TOKEN: Final = re.compile(r"[()]|[^ \t\r\n()]+")

type Layers = Sequence[Collection[str] | None]
type Risks = Mapping[str, Risk]
type Has = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueScope:
    """A scope as the operator declared it: its risk, and the kinds of key that may carry it."""

    name: str
    risk: Risk
    kinds: frozenset[Kind]
    is_deprecated: bool = False


class Preset(StrEnum):
    """A ready choice of scopes, picked by risk."""

    READ_ONLY = "read-only"
    WRITE = "write"
    ADMIN = "admin"


_PRESET_RISKS: Final = {
    Preset.READ_ONLY: frozenset({Risk.READ}),
    Preset.WRITE: frozenset({Risk.READ, Risk.WRITE}),
    Preset.ADMIN: frozenset(Risk),
}


def validate(text: str) -> str:
    """Return the text if it is a scope by form; whether the catalogue knows it is another question.

    Raises:
        Invalid: it is not of the form `resource:action`.
    """
    if SCOPE.fullmatch(text) is None:
        raise Invalid("A scope is written resource:action, in lower case.", field="scopes")
    return text


def is_wildcard(scope: str) -> bool:
    """Tell whether the scope covers every second segment of its first."""
    return scope.partition(":")[2] == "*"


def covers(held: str, wanted: str) -> bool:
    """Tell whether holding one scope is enough for another: the same, or the wildcard over it.

    `x:*` is covered by `x:*` alone: all the scopes of today do not add up to those of tomorrow.
    """
    return held == wanted or held == _wildcard_over(wanted)


def holds(held: Collection[str], wanted: str) -> bool:
    """Tell whether any of the held scopes covers the wanted one."""
    return wanted in held or _wildcard_over(wanted) in held


def missing(held: Collection[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the wanted scopes that none of the held ones covers, sorted, each once."""
    return tuple(sorted({scope for scope in wanted if not holds(held, scope)}))


def allows(scope: str, risks: Risks, allowed: Collection[Risk]) -> bool:
    """Tell whether every risk that the scope carries is allowed (KEYS §4).

    A scope that the catalogue lacks counts as `admin`; a wildcard carries its own risk and those of all that
    it covers, so that it is never the cheap way to a scope that is refused by name.
    """
    if risks.get(scope, Risk.ADMIN) not in allowed:
        return False
    if not is_wildcard(scope):
        return True
    return all(risk in allowed for name, risk in risks.items() if covers(scope, name))


def permits(
    wanted: str, scopes: Collection[str], layers: Layers, risks: Risks, allowed: Collection[Risk]
) -> bool:
    """Tell whether a key may do what is wanted, after all that narrows it: the one check of KEYS §4.

    Args:
        wanted: a scope, or a wildcard for all of a resource, present and future.
        scopes: what the key carries.
        layers: what each project on the path allows; None where a project narrows nothing, empty where it
            allows nothing.
        risks: the catalogue, scope to risk.
        allowed: the risks that the owner's role may use; all of them where no member owns the key.
    """
    return holds(scopes, wanted) and _passes(wanted, layers, risks, allowed)


def effective(
    scopes: Collection[str], layers: Layers, risks: Risks, allowed: Collection[Risk]
) -> tuple[str, ...]:
    """Return the scopes that count, sorted: those of the key after the projects and the owner's role.

    Arguments as in `permits`. A wildcard stays only where all that it stands for passes; else the concrete
    scopes under it that pass take its place. Whatever `permits` allows is covered by the answer, and of the
    scopes that the catalogue knows the answer covers nothing that `permits` refuses.
    """
    kept: set[str] = set()
    for scope in scopes:
        if _passes(scope, layers, risks, allowed):
            kept.add(scope)
        elif is_wildcard(scope):
            kept.update(_concrete(scope, layers, risks, allowed))
    return tuple(sorted(kept))


def usable(scopes: Collection[str], risks: Risks, allowed: Collection[Risk]) -> list[str]:
    """Return what a key is to carry so that it can do without an owner's role what it could do with it, sorted.

    Under a role that may not use every risk, each wildcard gives way to what it covers today: without the role it
    would also be good for what the catalogue lacks. Of more than a key can carry, what it names itself goes first.

    Args:
        scopes: what the key carries.
        risks: the catalogue, scope to risk.
        allowed: the risks that the role may use.
    """
    if set(allowed) == EVERY_RISK:
        return sorted(scopes)
    concrete = [scope for scope in sorted({*scopes, *risks}) if not is_wildcard(scope)]
    found = [scope for scope in concrete if permits(scope, scopes, (), risks, allowed)]
    return sorted(sorted(found, key=lambda scope: scope not in scopes)[:MAX_SCOPES])


def preset(name: Preset | str, catalogue: Mapping[str, CatalogueScope], kind: Kind) -> tuple[str, ...]:
    """Return the scopes that a preset ticks for a kind of key, sorted.

    Wildcards, deprecated scopes and `keys:breakglass` (an owner's deliberate choice) are never in a preset.

    Raises:
        Invalid: no preset has this name.
    """
    try:
        risks = _PRESET_RISKS[Preset(name)]
    except ValueError:
        raise Invalid("The presets are read-only, write and admin.", field="preset") from None
    picked = (
        scope
        for scope in catalogue.values()
        if scope.risk in risks
        and kind in scope.kinds
        and not scope.is_deprecated
        and not is_wildcard(scope.name)
    )
    return tuple(sorted(scope.name for scope in picked if scope.name != BREAK_GLASS))


@dataclass(frozen=True, slots=True)
class _Group:
    """All of its parts (AND), or any of them (OR)."""

    is_all: bool
    parts: tuple["_Node", ...]


type _Node = str | _Group


@dataclass(frozen=True, slots=True)
class Query:
    """A question about scopes, made by `parse_query` or `all_of` and asked with a predicate."""

    root: _Node

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return every scope that the query names, sorted, each once."""
        return tuple(sorted(_leaves(self.root)))

    def satisfied_by(self, has: Has) -> bool:
        """Tell whether the query holds; `has` answers for one scope."""
        return _satisfied(self.root, has)

    def missing(self, has: Has) -> tuple[str, ...]:
        """Return the scopes that would help, sorted: of an unmet OR every alternative, of a met part none."""
        return tuple(sorted(_missing(self.root, has)))


def all_of(scopes: Iterable[str]) -> Query:
    """Return the query that needs every scope of the list; of an empty list, the one that always holds.

    Raises:
        Invalid: one is not a scope, or there are more than 64.
    """
    wanted = tuple(dict.fromkeys(scopes))
    if len(wanted) > MAX_SCOPES:
        raise Invalid(f"At most {MAX_SCOPES} scopes can be asked for.", field="scopes")
    return Query(_Group(is_all=True, parts=tuple(validate(scope) for scope in wanted)))


def parse_query(text: str) -> Query:
    """Return the query of a text such as `a:b AND (c:d OR c:*)`; AND binds tighter than OR.

    The two words may be in either case. The depth of parentheses is bounded (20), so that no text can
    exhaust the stack.

    Raises:
        Invalid: longer than 1,000 characters, or broken; the detail names the character, counted from 1.
    """
    if len(text) > MAX_QUERY:
        raise Invalid(f"A query is at most {MAX_QUERY:,} characters long.", field="scopes")
    return Query(_Parser(text).query())


class _Parser:
    """Recursive descent over `or := and (OR and)*`, `and := atom (AND atom)*`, `atom := scope | ( or )`."""

    def __init__(self, text: str) -> None:
        self._tokens = [(match.group(), match.start()) for match in _TOKEN.finditer(text)]
        self._end = len(text)
        self._next = 0

    def query(self) -> _Node:
        node = self._chain("OR", 0)
        if self._next < len(self._tokens):
            raise self._broken("AND, OR or the end was expected")
        return node

    def _chain(self, operator: str, depth: int) -> _Node:
        parts = [self._part(operator, depth)]
        while self._takes(operator):
            parts.append(self._part(operator, depth))
        return parts[0] if len(parts) == 1 else _Group(is_all=operator == "AND", parts=tuple(parts))

    def _part(self, operator: str, depth: int) -> _Node:
        return self._chain("AND", depth) if operator == "OR" else self._atom(depth)

    def _atom(self, depth: int) -> _Node:
        if self._takes("("):
            return self._parenthesis(depth + 1)
        if SCOPE.fullmatch(self._peek()) is None:
            raise self._broken("a scope or ( was expected")
        self._next += 1
        return self._tokens[self._next - 1][0]

    def _parenthesis(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._broken(f"parentheses may be {MAX_DEPTH} deep")
        node = self._chain("OR", depth)
        if not self._takes(")"):
            raise self._broken("AND, OR or ) was expected")
        return node

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _takes(self, word: str) -> bool:
        is_next = self._peek().upper() == word
        self._next += is_next
        return is_next

    def _broken(self, why: str) -> Invalid:
        at = self._tokens[self._next][1] if self._next < len(self._tokens) else self._end
        return Invalid(f"The query breaks at character {at + 1}: {why}.", field="scopes")


def _leaves(node: _Node) -> set[str]:
    if isinstance(node, str):
        return {node}
    return {leaf for part in node.parts for leaf in _leaves(part)}


def _satisfied(node: _Node, has: Has) -> bool:
    if isinstance(node, str):
        return has(node)
    answers = (_satisfied(part, has) for part in node.parts)
    return all(answers) if node.is_all else any(answers)


def _missing(node: _Node, has: Has) -> set[str]:
    if _satisfied(node, has):
        return set()
    if isinstance(node, str):
        return {node}
    return {leaf for part in node.parts for leaf in _missing(part, has)}


def _wildcard_over(scope: str) -> str:
    return scope.partition(":")[0] + ":*"


def _passes(scope: str, layers: Layers, risks: Risks, allowed: Collection[Risk]) -> bool:
    return all(layer is None or holds(layer, scope) for layer in layers) and allows(scope, risks, allowed)


def _concrete(wildcard: str, layers: Layers, risks: Risks, allowed: Collection[Risk]) -> set[str]:
    """Return what passes under a wildcard that does not: of the catalogue, and of what a project names."""
    known = set(risks).union(*(layer for layer in layers if layer is not None))
    return {name for name in known if covers(wildcard, name) and _passes(name, layers, risks, allowed)}

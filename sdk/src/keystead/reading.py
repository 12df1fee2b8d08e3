"""From JSON to dataclasses: what is declared is what is read.

Members that are not known are skipped, so that a newer portal's answers can be read; members that are missing take
the field's default, and where there is none the answer is not one of a portal.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from typing import Any, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from keystead.errors import UnreadableAnswer
from keystead.secret import Secret

T = TypeVar("T")
Reader = Callable[[Any], Any]


def read(kind: type[T], data: Any) -> T:
    """Return the JSON value as a dataclass of this kind.

    Raises:
        UnreadableAnswer: it has not its form. The message names the member, never its value.
    """
    try:
        made: T = _reader(cast(Any, kind))(data)
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        where = str(error) if isinstance(error, _UnfitError) else "its members"
        problem = f"The answer is not one of a portal: {where}."
    else:
        return made
    raise UnreadableAnswer(problem)


class ReadOnly(dict[str, Any]):
    """A mapping that can't be changed: a verdict that is kept is handed to one request after the other."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("What a portal answered can't be changed.")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnly, (dict(self),)


class _UnfitError(ValueError):
    """A member that is not of its type; the message is its path."""


@cache
def _reader(kind: Any) -> Reader:
    origin = get_origin(kind)
    if origin in {Union, types.UnionType}:
        return _optional(kind)
    if origin is tuple:
        return _tuple(_reader(get_args(kind)[0]))
    if origin is not None:
        return _mapping(_reader(get_args(kind)[1]))
    return _dataclass(kind) if dataclasses.is_dataclass(kind) else _plain(kind)


def _optional(kind: Any) -> Reader:
    (inner,) = (each for each in get_args(kind) if each is not type(None))
    reader = _reader(inner)
    return lambda value: None if value is None else reader(value)


def _tuple(reader: Reader) -> Reader:
    return lambda value: tuple(map(reader, _of(list, value)))


def _mapping(reader: Reader) -> Reader:
    return lambda value: ReadOnly((name, reader(each)) for name, each in _of(dict, value).items())


def _dataclass(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    fields = [
        (field.name, field.metadata.get("name", field.name), _reader(hints[field.name]), _is_needed(field))
        for field in dataclasses.fields(kind)
        if field.init
    ]

    def reader(value: Any) -> Any:
        members = _of(dict, value)
        found = {}
        for attribute, name, read_field, is_needed in fields:
            if name in members:
                found[attribute] = _within(name, read_field, members[name])
            elif is_needed:
                raise _UnfitError(name)
        return kind(**found)

    return reader


def _within(name: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except _UnfitError as error:
        raise _UnfitError(f"{name}.{error}" if str(error) else name) from None


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(kind: Any) -> Reader:
    special: dict[Any, Reader] = {
        Any: lambda value: value,
        datetime: _moment,
        Secret: lambda value: Secret(_of(str, value)),
        float: lambda value: float(_of((int, float), value)),
    }
    return special.get(kind) or (lambda value: _of(kind, value))


def _moment(value: Any) -> datetime:
    text = _of(str, value)
    try:
        # Python 3.10 knows neither Z nor nanoseconds.
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise _UnfitError from None
    return found.astimezone(timezone.utc)


def _of(kind: Any, value: Any) -> Any:
    # A boolean is an int to isinstance, and none to JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _UnfitError
    return value

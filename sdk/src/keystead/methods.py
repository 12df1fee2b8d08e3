"""From an operation, a function that returns a `Call`, to a client's method of the same signature that sends it."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from keystead.asking import next_page
from keystead.builder import KeyBuilder
from keystead.calls import Call
from keystead.judging import AsyncJudge, Judge
from keystead.models import AnyPage
from keystead.question import Question

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def blocking(operation: Callable[P, Call[T]]) -> Callable[Concatenate[Any, P], T]:
    """Return a method that sends the call and returns its result."""

    def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = self._transport.send(operation(*args, **kwargs))
        return result

    return _like(operation, method)


def awaitable(operation: Callable[P, Call[T]]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return a coroutine method that sends the call and returns its result."""

    async def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._transport.send(operation(*args, **kwargs))
        return result

    return _like(operation, method)


def blocking_question(
    ask: Callable[P, Question], judge: Callable[[Judge, Question], T]
) -> Callable[Concatenate[Any, P], T]:
    """Return a method that has a question judged; no frame of it keeps the secret as plain text."""

    def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        question = ask(*args, **kwargs)
        args, kwargs = (), {}  # type: ignore[assignment]
        return judge(self._judge, question)

    return _like(ask, method, judge)


def awaitable_question(
    ask: Callable[P, Question], judge: Callable[[AsyncJudge, Question], Coroutine[Any, Any, T]]
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return a coroutine method that has a question judged; no frame of it keeps the secret as plain text."""

    async def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        question = ask(*args, **kwargs)
        args, kwargs = (), {}  # type: ignore[assignment]
        return await judge(self._judge, question)

    return _like(ask, method, judge)


def blocking_pages(operation: Callable[P, Call[AnyPage[T]]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """Return a method that yields what is on page after page."""

    def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        call: Call[AnyPage[T]] | None = operation(*args, **kwargs)
        while call is not None:
            page: AnyPage[T] = self._transport.send(call)
            yield from page.data
            call = next_page(call, page)

    return _like(operation, method)


def awaitable_pages(
    operation: Callable[P, Call[AnyPage[T]]],
) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    """Return an asynchronous generator method that yields what is on page after page."""

    async def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        call: Call[AnyPage[T]] | None = operation(*args, **kwargs)
        while call is not None:
            page: AnyPage[T] = await self._transport.send(call)
            for each in page.data:
                yield each
            call = next_page(call, page)

    return _like(operation, method)


def blocking_download(
    operation: Callable[P, Call[None]],
) -> Callable[Concatenate[Any, str | os.PathLike[str], P], int]:
    """Return a method that saves what is answered in a file, and returns the number of its bytes."""

    def method(self: Any, path: str | os.PathLike[str], *args: P.args, **kwargs: P.kwargs) -> int:
        size: int = self._transport.save(operation(*args, **kwargs), path)
        return size

    return _to_file(operation, method)


def awaitable_download(
    operation: Callable[P, Call[None]],
) -> Callable[Concatenate[Any, str | os.PathLike[str], P], Coroutine[Any, Any, int]]:
    """Return a coroutine method that saves what is answered in a file, and returns the number of its bytes."""

    async def method(self: Any, path: str | os.PathLike[str], *args: P.args, **kwargs: P.kwargs) -> int:
        size: int = await self._transport.save(operation(*args, **kwargs), path)
        return size

    return _to_file(operation, method)


class Creation(Generic[P, R]):
    """Creates at once with arguments; without any, begins a `KeyBuilder`."""

    def __init__(self, create: Callable[P, R]) -> None:
        self._create = create

    @overload
    def __call__(self) -> KeyBuilder[R]: ...

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Create, or begin a builder."""
        if not args and not kwargs:
            return KeyBuilder(self._create)
        return self._create(*args, **kwargs)


class _Creating(Generic[P, R]):
    """Gives each client's namespace its `Creation`."""

    def __init__(self, method: Callable[Concatenate[Any, P], R]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, owner: Any, _kind: Any = None) -> Creation[P, R]:
        def create(*args: P.args, **kwargs: P.kwargs) -> R:
            return self._method(owner, *args, **kwargs)

        create.__doc__ = self.__doc__
        return Creation(create)


def blocking_creation(operation: Callable[P, Call[T]]) -> _Creating[P, T]:
    """Return what creates with the call, at once or by a builder."""
    return _Creating(blocking(operation))


def awaitable_creation(operation: Callable[P, Call[T]]) -> _Creating[P, Coroutine[Any, Any, T]]:
    """Return what creates with the call when awaited, at once or by a builder."""
    return _Creating(awaitable(operation))


def _to_file(operation: Callable[..., Any], method: Callable[..., R]) -> Callable[..., R]:
    """Give the method its operation's name and docstring, and before its parameters the file's path."""
    parameters = inspect.signature(operation).parameters.values()
    path = inspect.Parameter(
        "path", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="str | os.PathLike[str]"
    )
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [self, path, *parameters], return_annotation="int"
    )
    method.__name__ = operation.__name__
    method.__doc__ = operation.__doc__
    return method


def _like(operation: Callable[..., Any], method: Callable[..., R], judge: Any = None) -> Callable[..., R]:
    """Give the method its operation's name, signature and docstring."""
    signature = inspect.signature(operation)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    # Of `Call[Key]` the caller gets the Key.
    returned = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self, *signature.parameters.values()], return_annotation=returned
    )
    method.__name__ = operation.__name__
    method.__doc__ = operation.__doc__ if judge is None else f"{operation.__doc__}\n{judge.__doc__}"
    return method

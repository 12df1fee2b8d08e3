"""The API's page: the OpenAPI document read for people, with an example for each operation."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from keys.api.docs import REF

NOTHING: Final = "nothing"
_JSON: Final = "application/json"
_TYPES: Final = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter, or a field of a body."""

    name: str
    kind: str
    place: str
    is_required: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One status that an operation answers with, and what its body is."""

    status: str
    text: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation as the page shows it; `example` is a command for a shell."""

    id: str
    method: str
    path: str
    summary: str
    text: str
    scope: str
    fields: Sequence[Field]
    answers: Sequence[Answered]
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An object that is answered, with its members."""

    name: str
    text: str
    fields: Sequence[Field]


def groups(document: Mapping[str, Any], address: str) -> list[tuple[str, list[Operation]]]:
    """Return the operations by tag, in their order; `address` is that of this deployment, for the examples."""
    found = [
        (operation["tags"][0], _operation(document, path, method, operation, address))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return [(tag, [one for _, one in each]) for tag, each in groupby(found, key=lambda pair: pair[0])]


def shapes(document: Mapping[str, Any]) -> list[Shape]:
    """Return what bodies and answers are made of, by name; a whole body stands with its operation."""
    schemas = document["components"]["schemas"]
    return [
        Shape(name=_short(name), text=_plain_text(schema), fields=_members(schema, "answer"))
        for name, schema in sorted(schemas.items())
        if "properties" in schema and "examples" not in schema
    ]


def _operation(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any], address: str
) -> Operation:
    body = _body(document, operation)
    parameters = [_parameter(one) for one in operation["parameters"]]
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        text=_plain_text(operation),
        scope=operation["x-scope"],
        fields=[*parameters, *_members(body, "body")],
        answers=[_answer(document, status, one) for status, one in sorted(operation["responses"].items())],
        example=_example(method.upper(), address + path, body, is_open="security" not in operation),
    )


def _body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of the body; an optional one is a choice between it and null."""
    schema = operation.get("requestBody", {}).get("content", {}).get(_JSON, {}).get("schema", {})
    for choice in schema.get("anyOf", [schema]):
        if "$ref" in choice:
            found: Mapping[str, Any] = document["components"]["schemas"][_name(choice["$ref"])]
            return found
    return {}


def _parameter(one: Mapping[str, Any]) -> Field:
    return Field(
        name=one["name"],
        kind=_kind(one["schema"]),
        place=one["in"],
        is_required=one["required"],
        text=_plain_text(one),
    )


def _members(schema: Mapping[str, Any], place: str) -> list[Field]:
    required = schema.get("required", ())
    return [
        Field(
            name=name,
            kind=_kind(member),
            place=place,
            is_required=name in required,
            text=_plain_text(member),
        )
        for name, member in schema.get("properties", {}).items()
    ]


def _answer(document: Mapping[str, Any], status: str, answer: Mapping[str, Any]) -> Answered:
    if "$ref" in answer:
        answer = document["components"]["responses"][_name(answer["$ref"])]
    schemas = [content["schema"] for content in answer.get("content", {}).values()]
    if not schemas:
        return Answered(status=status, text=_plain_text(answer), body=NOTHING)
    known = document["components"]["schemas"].get(_name(schemas[0].get("$ref", "")), {})
    text = _plain_text(known if status < "400" and known else answer)
    return Answered(status=status, text=text, body=_kind(schemas[0]))


def _kind(schema: Mapping[str, Any]) -> str:
    """Return in words what a value is."""
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(map(_kind, schema[word])))
    if "$ref" in schema:
        return _short(_name(schema["$ref"]))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    return _plain(schema)


def _plain(schema: Mapping[str, Any]) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema['items'])}"
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {_kind(values)}" if isinstance(values, dict) else "object"
        case "string" if schema.get("format") == "date-time":
            return "time"
        case kind:
            return _TYPES.get(str(kind), "any")


def _example(method: str, url: str, body: Mapping[str, Any], *, is_open: bool) -> str:
    lines = [f"curl -X {method} {shlex.quote(url)}"]
    if not is_open:
        lines.append('-H "Authorization: Bearer $KEYSTEAD_KEY"')
    if body:
        example = json.dumps(body["examples"][0], ensure_ascii=False)
        lines += [f"-H 'Content-Type: {_JSON}'", f"-d {shlex.quote(example)}"]
    return " \\\n  ".join(lines)


def _plain_text(described: Mapping[str, Any]) -> str:
    """Return the description without its marks for code."""
    return str(described.get("description", "")).replace("`", "")


def _name(reference: str) -> str:
    return reference.removeprefix(f"{REF}/schemas/").removeprefix(f"{REF}/responses/")


def _short(name: str) -> str:
    return name.removesuffix("Out")

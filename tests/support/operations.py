"""Every call that the service describes, and requests for it made from its own description."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

from fastapi import FastAPI

ID_NAME = re.compile(r"(?:.+_)?ids?|\w+Ids?|access_key")

VALUES: dict[str, Any] = {
    "availability_zone": "az1",
    "count": 1,
    "new_size": 12,
    "size": 10,
    "volume_type": "SSD",
}
"""What the description does not say of a field, by its name."""


@dataclass(frozen=True)
class Operation:
    """One call."""

    method: str
    path: str
    description: Mapping[str, Any]
    schemas: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def of_project(self) -> bool:
        """Whether it is a call within a project."""
        return "{project_id}" in self.path

    @cached_property
    def path_ids(self) -> list[str]:
        """Ids in the path, but the project's."""
        return [name for name in self._path_names if ID_NAME.fullmatch(name) and name != "project_id"]

    @cached_property
    def query_ids(self) -> list[str]:
        """Ids that the query may hold."""
        found = [
            parameter["name"] for parameter in self.description.get("parameters", ()) if parameter["in"] == "query"
        ]
        return [name for name in found if ID_NAME.fullmatch(name) and name != "enterprise_project_id"]

    @cached_property
    def body_ids(self) -> list[str]:
        """Ids that the body may hold, at any depth."""
        return list(dict.fromkeys(self._ids_in(self._body_schema))) if self._body_schema else []

    def request(
        self, project_id: str, ids: Mapping[str, str], needed: Callable[[str], str] = lambda _name: str(uuid4())
    ) -> dict[str, Any]:
        """Return a request for `httpx.Client.request`, with *ids* by name; what it needs besides is *needed*."""
        in_path = dict.fromkeys(self._path_names, "x")
        in_path |= {name: ids.get(name) or needed(name) for name in self.path_ids} | {"project_id": project_id}
        found: dict[str, Any] = {"method": self.method, "url": self.path.format(**in_path)}
        found["params"] = {name: ids[name] for name in self.query_ids if name in ids}
        if self._body_schema:
            found["json"] = self._sample(self._body_schema, "", ids, needed)
        return found

    @property
    def _path_names(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def _body_schema(self) -> Mapping[str, Any] | None:
        content = self.description.get("requestBody", {}).get("content", {})
        schema: Mapping[str, Any] | None = content.get("application/json", {}).get("schema")
        return schema

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow references, and take the first of several forms."""
        while True:
            if "$ref" in schema:
                schema = self.schemas[schema["$ref"].rpartition("/")[2]]
            elif forms := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
                schema = forms[0]
            else:
                return schema

    def _ids_in(self, schema: Mapping[str, Any], name: str = "") -> Iterator[str]:
        schema = self._resolved(schema)
        for child, inner in schema.get("properties", {}).items():
            yield from self._ids_in(inner, child)
        if "items" in schema:
            yield from self._ids_in(schema["items"], name)
        elif schema.get("type") == "string" and ID_NAME.fullmatch(name) and name != "enterprise_project_id":
            yield name

    def _sample(
        self, schema: Mapping[str, Any], name: str, ids: Mapping[str, str], needed: Callable[[str], str]
    ) -> Any:
        schema = self._resolved(schema)
        match schema.get("type"):
            case "object":
                wanted = set(schema.get("required", ()))
                return {
                    child: VALUES.get(child) or self._sample(inner, child, ids, needed)
                    for child, inner in schema.get("properties", {}).items()
                    if child in wanted or ids.keys() & set(self._ids_in(inner, child))
                }
            case "array":
                return [self._sample(schema["items"], name, ids, needed)]
            case "string" if ID_NAME.fullmatch(name):
                return ids.get(name) or needed(name)
            case other:
                simple = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1), "boolean": False}
                return schema.get("const") or schema.get("enum", [simple.get(str(other), "x")])[0]


def operations(app: FastAPI) -> list[Operation]:
    """Return every call that *app* describes."""
    described = app.openapi()
    schemas = described.get("components", {}).get("schemas", {})
    return [
        Operation(method.upper(), path, description, schemas)
        for path, methods in described["paths"].items()
        for method, description in methods.items()
    ]

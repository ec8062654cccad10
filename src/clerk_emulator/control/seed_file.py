"""Read a seed file in JSON or YAML; errors name the line."""

import json
import re
from pathlib import Path
from typing import Any

LOCATION = re.compile(r"^[a-z_]+(\[\d+\])?(\.[a-z_]+(\[\d+\])?)*")
STEP = re.compile(r"([a-z_]+)|\[(\d+)\]")
PINNED_KEYS = ("secret_key", "publishable_key", "private_key")


class InvalidSeedFileError(ValueError):
    """A seed file that cannot be read; the message names file and line."""


class SeedFile:
    """Content of a seed file: `keys` are the keys it pins, `seed` is the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = path.read_text(encoding="utf-8")
        data = self._parse()
        if not isinstance(data, dict):
            raise InvalidSeedFileError(f"{path}:1: a seed must be an object")
        self.keys = self._keys(data.pop("keys", None) or {})
        self.seed = data

    def explain(self, error: ValueError) -> InvalidSeedFileError:
        """Return an error about the seed with the line it refers to."""
        return InvalidSeedFileError(f"{self._path}:{self._line(str(error))}: {error}")

    def _parse(self) -> Any:
        if self._path.suffix.lower() not in (".yaml", ".yml"):
            try:
                return json.loads(self._text)
            except json.JSONDecodeError as error:
                raise InvalidSeedFileError(f"{self._path}:{error.lineno}: {error.msg}") from error
        yaml = _import_yaml()
        if yaml is None:
            raise InvalidSeedFileError(f"{self._path}: reading a YAML seed requires the package pyyaml")
        try:
            return yaml.load(self._text, Loader=_string_time_loader(yaml))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            message = getattr(error, "problem", None) or "is not valid YAML"
            raise InvalidSeedFileError(f"{self._path}:{mark.line + 1 if mark else 1}: {message}") from error

    def _keys(self, data: Any) -> dict[str, str]:
        if not isinstance(data, dict) or set(data) - set(PINNED_KEYS):
            raise self.explain(ValueError(f"keys: may contain {', '.join(PINNED_KEYS)}"))
        for name, value in data.items():
            if not isinstance(value, str):
                raise self.explain(ValueError(f"keys.{name}: must be text"))
        return dict(data)

    def _line(self, message: str) -> int:
        """Return the line of the location that a message begins with, or of the nearest parent."""
        found, yaml = LOCATION.match(message), _import_yaml()
        if found is None or yaml is None:
            return 1
        node = yaml.compose(self._text.replace("\t", " "), Loader=_string_time_loader(yaml))
        line = 1
        unknown = re.search(r"unknown (\w+)", message)
        steps: list[str | int] = [name or int(number) for name, number in STEP.findall(found.group())]
        for step in [*(step for step in steps if step != "seed"), *([unknown.group(1)] if unknown else [])]:
            child = _child_node(node, step)
            if child is None:
                break
            node, line = child
        return line


def _child_node(node: Any, step: str | int) -> tuple[Any, int] | None:
    """Return the child node under a key or an index, and its line."""
    if isinstance(step, int):
        items = node.value if node.id == "sequence" else []
        return (items[step], items[step].start_mark.line + 1) if step < len(items) else None
    for key, value in node.value if node.id == "mapping" else []:
        if key.value == step:
            return value, key.start_mark.line + 1
    return None


def _import_yaml() -> Any:
    try:
        import yaml
    except ImportError:
        return None
    return yaml


def _string_time_loader(yaml: Any) -> Any:
    """Return a loader that keeps timestamps as strings: the seed parses them."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader

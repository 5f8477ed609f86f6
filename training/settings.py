"""Single settings of a configuration: put in place as ``key=value``, and listed with what they mean."""

from __future__ import annotations

import difflib
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from robot.config import model_in
from robot.errors import ConfigError


def fields_of(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Every field of a model and, after it, those of the section in it, by dotted name."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        found[prefix + name] = field
        section = model_in(field.annotation)
        if section is not None:
            found |= fields_of(section, f"{prefix}{name}.")
    return found


def put(content: dict[str, Any], setting: str, model: type[BaseModel]) -> None:
    """Put one ``key=value`` into raw content; keys of a section have a dot, values are YAML.

    Raises:
        ConfigError: there is no such key (the message names the nearest), or the value is no YAML.
    """
    name, equals, text = setting.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {setting}: give it as key=value, for instance steps=100")
    known = list(fields_of(model))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(f"--set: unknown key {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {name}: {text!r} is not YAML") from error
    *sections, last = name.split(".")
    for section in sections:
        inner = content.get(section)
        content[section] = dict(inner) if isinstance(inner, dict) else {}
        content = content[section]
    content[last] = value


def table(model: type[BaseModel]) -> str:
    """Every field as a row of a Markdown table: name, default, meaning."""
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for name, field in fields_of(model).items():
        meaning = " ".join((field.description or "").replace("``", "`").split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {_default(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "as below"
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()
    return f"`{text}`"

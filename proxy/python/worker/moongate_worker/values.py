"""What user code returned, as text for a model and as plain JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from moongate_worker.failures import CallError
from moongate_worker.frames import to_json


def to_content(value: Any, source: str) -> tuple[str, Any]:
    """The text and the plain JSON of a result. `source` names whose result it is, for the error."""
    if value is None or isinstance(value, str):
        return value or "", value
    try:
        plain = _to_plain(value)
        return to_json(plain).decode(), plain
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise CallError(
            "output", f"{source} returned a `{type_name(value)}`, which cannot be written as JSON: {reason}"
        ) from error


def tool_text(result: Any) -> str:
    """What a tool of the SDK returned, as the text that a model reads."""
    if isinstance(result, str):
        return result
    texts = [_text_of_part(part) for part in (result if isinstance(result, (list, tuple)) else [result])]
    return "\n".join(text for text in texts if text is not None) if texts and None not in texts else str(result)


def _text_of_part(part: Any) -> str | None:
    """The text of a `ToolOutputText`, or of a dict of that form."""
    fields = part if isinstance(part, dict) else getattr(part, "__dict__", {})
    text = fields.get("text") if fields.get("type") == "text" else None
    return text if isinstance(text, str) else None


def type_name(value: Any) -> str:
    """The name of a value's type, with its module unless it is a builtin."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _to_plain(value: Any) -> Any:
    try:
        from pydantic_core import to_jsonable_python
    except ImportError:
        return json.loads(json.dumps(value, allow_nan=False, default=_without_pydantic))
    return to_jsonable_python(value)


def _without_pydantic(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"`{type_name(value)}` has no JSON form")

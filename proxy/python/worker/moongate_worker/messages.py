"""Chat completions messages as the input items that the SDK's runner takes."""

from __future__ import annotations

from typing import Any


def to_input_items(messages: list[dict[str, Any]], instructions: str | None) -> list[dict[str, Any]]:
    """Convert a conversation; `instructions` of the gateway's configuration come first."""
    items: list[dict[str, Any]] = [] if instructions is None else [{"role": "system", "content": instructions}]
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "assistant":
            items.extend(_assistant(message, index))
        elif role in ("tool", "function"):
            items.append(_tool_result(message))
        elif role == "user":
            items.append({"role": role, "content": _content(message.get("content"))})
        else:
            items.append({"role": role, "content": text_of(message.get("content"))})
    return items


def text_of(content: Any) -> str:
    """The text of a message's content, whichever of its forms it has."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or part.get("refusal") or "" for part in content)


def _assistant(message: dict[str, Any], index: int) -> list[dict[str, Any]]:
    text = text_of(message.get("content")) or message.get("refusal") or ""
    calls = message.get("tool_calls") or []
    if not calls:
        return [{"role": "assistant", "content": text}]
    items: list[dict[str, Any]] = []
    if text:
        # The runner's own form of a message: it keeps the text and the tool calls of one turn together.
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
        message_id = f"msg_{index}"
        items.append(
            {"type": "message", "role": "assistant", "id": message_id, "status": "completed", "content": [part]}
        )
    for call in calls:
        function = call.get("function") or {}
        items.append(
            {
                "type": "function_call",
                "call_id": call["id"],
                "name": function.get("name", ""),
                "arguments": function.get("arguments") or "{}",
            }
        )
    return items


def _tool_result(message: dict[str, Any]) -> dict[str, Any]:
    call_id = message.get("tool_call_id") or message.get("name") or ""
    return {"type": "function_call_output", "call_id": call_id, "output": text_of(message.get("content"))}


def _content(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content or ""
    return [_part(part) for part in content]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            return {"type": "input_text", "text": part["text"]}
        case "image_url":
            image = part["image_url"]
            return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail") or "auto"}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part["input_audio"]}
        case "file":
            return {"type": "input_file", **part["file"]}
        case _:
            return part

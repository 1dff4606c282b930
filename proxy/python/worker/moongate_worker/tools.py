"""Python functions as tools of the gateway: their definition from hints and docstring, and their calls."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

from moongate_worker.failures import CallError, describe
from moongate_worker.sdk import Sdk
from moongate_worker.values import to_content, type_name


def make_tool(target: str, value: Any, sdk: Sdk) -> FunctionCall | ToolCall:
    """The tool that an object is: a function, or a FunctionTool of the SDK."""
    if not sdk.present:
        raise CallError("load", f"`{target}` cannot be a tool: {sdk.error}")
    from agents import FunctionTool

    if isinstance(value, FunctionTool):
        return ToolCall(value)
    if not callable(value) or isinstance(value, type):
        raise CallError("load", f"`{target}` is a `{type_name(value)}`, neither a function nor a `function_tool`")
    return FunctionCall(value)


class FunctionCall:
    """A plain function, sync or async."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._schema = _schema(function)
        self.definition = _definition(self._schema.name, self._schema.description, self._schema.params_json_schema)

    async def call(self, arguments: Any) -> dict[str, Any]:
        """Check the arguments, call, and give the result as text and as JSON."""
        positional, named = self._bind(arguments)
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(*positional, **named)
        else:
            result = await asyncio.to_thread(self._function, *positional, **named)
            if inspect.isawaitable(result):
                result = await result
        return _result(result, self._schema.name)

    def _bind(self, arguments: Any) -> tuple[list[Any], dict[str, Any]]:
        from pydantic import ValidationError

        name = self._schema.name
        if not isinstance(arguments, dict):
            raise CallError(
                "arguments",
                f"`{name}` was not called: its arguments must be a JSON object, not a `{type_name(arguments)}`",
            )
        try:
            positional, named = self._schema.to_call_args(self._schema.params_pydantic_model(**arguments))
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in error.errors()
            )
            raise CallError(
                "arguments", f"`{name}` was not called, because its arguments are wrong: {faults}"
            ) from None
        if self._schema.takes_context:
            positional.insert(0, _tool_context(name, arguments))
        return positional, named


class ToolCall:
    """A FunctionTool, which checks its arguments and words its errors itself."""

    def __init__(self, tool: Any) -> None:
        self._tool = tool
        self.definition = _definition(tool.name, tool.description, tool.params_json_schema)

    async def call(self, arguments: Any) -> dict[str, Any]:
        """Call, and give the result as text and as JSON."""
        context = _tool_context(self._tool.name, arguments)
        return _result(await self._tool.on_invoke_tool(context, context.tool_arguments), self._tool.name)


def _schema(function: Callable[..., Any]) -> Any:
    from agents.function_schema import function_schema

    try:
        # A strict schema would require every parameter, those with a default as well, and there is none of a plain dict.
        schema = function_schema(function, strict_json_schema=False)
    except Exception as error:
        code = getattr(inspect.unwrap(function), "__code__", None)
        place = {} if code is None else {"file": code.co_filename, "line": code.co_firstlineno}
        raise CallError(
            "load", f"its parameters cannot be described as JSON Schema: {describe(error)}", **place
        ) from error
    # A misspelt name is told, not ignored.
    schema.params_json_schema.setdefault("additionalProperties", False)
    return schema


def _definition(name: str, description: str | None, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description or "", "parameters": parameters}


def _tool_context(name: str, arguments: Any) -> Any:
    from agents.tool_context import ToolContext

    return ToolContext(context=None, tool_name=name, tool_call_id=f"call_{name}", tool_arguments=json.dumps(arguments))


def _result(value: Any, name: str) -> dict[str, Any]:
    content, plain = to_content(value, f"`{name}`")
    return {"content": content, "value": plain}

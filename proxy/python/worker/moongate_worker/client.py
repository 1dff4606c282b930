"""The way from the SDK and from user code to a model: every call becomes a question to the gateway."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from moongate_worker.asks import Asks, ModelAnswer, ModelFailed
from moongate_worker.calls import Call, current_call
from moongate_worker.failures import CallError, causes_of_type
from moongate_worker.frames import to_json
from moongate_worker.sdk import DEFAULT_MODEL

BASE_URL = "http://moongate.internal/v1"

_NOT_OF_THE_BODY = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})


class ModelClient:
    """The part of AsyncOpenAI that the SDK's chat completions model uses, without HTTP in between."""

    def __init__(self, asks: Asks) -> None:
        self.base_url = BASE_URL
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))
        self._asks = asks

    async def _create(self, **fields: Any) -> Any:
        from openai.types.chat import ChatCompletion

        call = current_call()
        answer = self._asks.model(call, to_json(_body(call, fields)))
        try:
            await answer.started()
            if fields.get("stream") is True:
                return ChunkStream(answer)
            return _parse(ChatCompletion, await answer.__anext__())
        except BaseException as error:
            answer.close()
            if isinstance(error, ModelFailed):
                raise _status_error(error) from error
            raise


class ChunkStream:
    """The chunks of a streaming answer, as the SDK's stream handler reads them."""

    def __init__(self, answer: ModelAnswer) -> None:
        from openai.types.chat import ChatCompletionChunk

        self._type = ChatCompletionChunk
        self._answer = answer

    def __aiter__(self) -> ChunkStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return _parse(self._type, await self._answer.__anext__())
        except ModelFailed as error:
            raise _stream_error(error) from error

    async def aclose(self) -> None:
        """Tell the gateway that no more is wanted."""
        self._answer.close()


def openai_client(asks: Asks) -> Any:
    """An AsyncOpenAI for user code, whose HTTP requests never reach a network."""
    from openai import AsyncOpenAI

    httpx = _httpx()

    class AnswerStream(httpx.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, answer: ModelAnswer) -> None:
            self._answer = answer

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._answer:
                    yield b"data: %b\n\n" % chunk.replace("\n", " ").encode()
                yield b"data: [DONE]\n\n"
            except ModelFailed as failed:
                yield b"data: %b\n\n" % to_json({"error": failed.error})

        async def aclose(self) -> None:
            self._answer.close()

    class Transport(httpx.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            if request.method != "POST" or not request.url.path.endswith("/chat/completions"):
                message = f"the gateway's client has only chat completions, not {request.method} {request.url.path}"
                return httpx.Response(
                    404, json={"error": {"message": message, "type": "invalid_request_error", "code": "not_found"}}
                )
            body = json.loads(await request.aread())
            try:
                call = current_call()
                if body.get("model") == DEFAULT_MODEL:
                    body["model"] = _model_of(call)
                answer = asks.model(call, to_json(body))
            except (CallError, ValueError) as error:
                return httpx.Response(400, json={"error": {"message": str(error), "type": "invalid_request_error"}})
            try:
                await answer.started()
                if body.get("stream"):
                    return httpx.Response(
                        200, headers={"content-type": "text/event-stream"}, stream=AnswerStream(answer)
                    )
                whole = await answer.__anext__()
                return httpx.Response(200, headers={"content-type": "application/json"}, content=whole.encode())
            except BaseException as error:
                answer.close()
                if isinstance(error, ModelFailed):
                    return httpx.Response(error.status, json={"error": error.error})
                raise

    return AsyncOpenAI(
        base_url=BASE_URL,
        api_key="moongate",
        max_retries=0,
        timeout=None,
        http_client=httpx.AsyncClient(transport=Transport(), timeout=None),
    )


def model_error(error: BaseException) -> CallError | None:
    """The failed model call that an error comes from, with the status and the error of the gateway as they came."""
    for failed in causes_of_type(error, ModelFailed):
        return CallError("model", str(failed), status=failed.status, error=failed.error)
    openai = sys.modules.get("openai")
    if openai is None:
        return None
    for refused in causes_of_type(error, openai.APIError):
        body = refused.body if isinstance(refused.body, dict) else {"message": str(refused), "type": "server_error"}
        return CallError("model", str(refused), status=getattr(refused, "status_code", 502), error=body)
    return None


def _body(call: Call, fields: dict[str, Any]) -> dict[str, Any]:
    """The request body: what the SDK sets, above what the agent's configuration entry sets."""
    absent = _absent_types()
    given = {
        name: value for name, value in fields.items() if name not in _NOT_OF_THE_BODY and not isinstance(value, absent)
    }
    request = call.request
    body: dict[str, Any] = {} if request is None else dict(request.settings)
    body.update(given)
    body.update(fields.get("extra_body") or {})
    if body.get("model") == DEFAULT_MODEL:
        body["model"] = _model_of(call)
    if request is not None and not request.parallel_tool_calls and body.get("tools"):
        body["parallel_tool_calls"] = False
    return body


def _model_of(call: Call) -> str:
    return DEFAULT_MODEL if call.request is None else call.request.model


def _parse(kind: Any, text: str) -> Any:
    """Parse strictly, which is fast; servers that stray from the schema get the client's lenient reading."""
    try:
        return kind.model_validate_json(text)
    except ValueError:
        from openai._models import construct_type

        return construct_type(type_=kind, value=json.loads(text))


def _status_error(failed: ModelFailed) -> Exception:
    import openai

    httpx = _httpx()
    response = httpx.Response(failed.status, request=httpx.Request("POST", f"{BASE_URL}/chat/completions"))
    kinds = (
        openai.BadRequestError,
        openai.AuthenticationError,
        openai.PermissionDeniedError,
        openai.NotFoundError,
        openai.ConflictError,
        openai.UnprocessableEntityError,
        openai.RateLimitError,
    )
    fallback = openai.InternalServerError if failed.status >= 500 else openai.APIStatusError
    kind = next((each for each in kinds if each.status_code == failed.status), fallback)
    return kind(str(failed), response=response, body=failed.error)


def _stream_error(failed: ModelFailed) -> Exception:
    import openai

    return openai.APIError(str(failed), _httpx().Request("POST", f"{BASE_URL}/chat/completions"), body=failed.error)


@functools.cache
def _absent_types() -> tuple[type, ...]:
    import openai

    return tuple(
        kind for kind in (getattr(openai, "NotGiven", None), getattr(openai, "Omit", None)) if kind is not None
    )


@functools.cache
def _httpx() -> Any:
    """The HTTP library that the installed client is made of: httpx, or httpx2 from openai 3 on."""
    import openai

    base = next(each for each in openai.DefaultAsyncHttpxClient.__mro__ if each.__module__.startswith("httpx"))
    return sys.modules[base.__module__.partition(".")[0]]

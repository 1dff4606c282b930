"""An MCP server over stdio with two tools: `alive` says so, `die` ends the process in the middle of the call."""

import json
import os
import sys

NOTHING = {"type": "object"}
TOOLS = [{"name": name, "description": name, "inputSchema": NOTHING} for name in ("alive", "die")]
INFO = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "mortal", "version": "1"}}


def answer(message):
    method = message["method"]
    if method == "initialize":
        return {"result": INFO}
    if method == "tools/list":
        return {"result": {"tools": TOOLS}}
    if method == "tools/call":
        if message["params"]["name"] == "die":
            os._exit(1)
        return {"result": {"content": [{"type": "text", "text": "alive and well"}]}}
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": -32601, "message": f"no method {method}"}}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request and "method" in request:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer(request)}), flush=True)

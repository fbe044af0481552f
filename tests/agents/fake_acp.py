"""An agent that speaks the Agent Client Protocol as badly as it is told to. Python 3.11, standard library only.

    fake_acp.py [--behaviour NAME] [--deltas N] [--delay SECONDS]

Behaviours: normal, ask (for a permission before it answers), mute (never answers initialize), exit (at once, code 3),
crash (in the middle of a turn, code 7), garbage (noise between its messages), huge (a line past every limit), stubborn (ignores cancel),
refuse (authenticate), deep (10,000 levels of JSON), strange (updates nobody knows), deaf (stops reading after its session).
FAKE_ACP_BEHAVIOUR says the same as --behaviour. A prompt's text is given back as its first delta.
"""

import argparse
import json
import os
import queue
import sys
import threading
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--behaviour", default=os.environ.get("FAKE_ACP_BEHAVIOUR", "normal"))
arguments.add_argument("--deltas", type=int, default=3)
arguments.add_argument("--delay", type=float, default=0.0)
arguments = arguments.parse_args()
behaviour = arguments.behaviour
inbox: "queue.Queue[dict | None]" = queue.Queue()
cancelled = threading.Event()
session = "none"
sessions = 0


def raw(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def send(**message) -> None:
    raw(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def update(**fields) -> None:
    send(method="session/update", params={"sessionId": session, "update": fields})


def delta(text: str) -> None:
    update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": text})


def listen() -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message.get("method") == "session/cancel":
            cancelled.set()
        inbox.put(message)
    inbox.put(None)


def ask_permission() -> str:
    """The chosen option, or `cancelled`."""
    options = [
        {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
        {"optionId": "no", "name": "Reject", "kind": "reject_once"},
    ]
    tool = {"toolCallId": "tool-1", "status": "pending", "title": "Writing hello.txt", "kind": "edit", "content": [], "locations": []}
    send(id=0, method="session/request_permission", params={"sessionId": session, "options": options, "toolCall": tool})
    while (message := inbox.get()) is not None:
        if message.get("id") == 0 and "result" in message:
            outcome = message["result"]["outcome"]
            return outcome.get("optionId", outcome["outcome"])
    sys.exit(0)


def turn(prompt: list) -> str:
    """Plays one turn; its stop reason."""
    cancelled.clear()
    if behaviour == "garbage":
        raw(b"Loaded cached credentials.\n\xff\xfe\x00\n{\"half\": \n[1, 2]\n\n")
        sys.stderr.buffer.write(b"warning: \xff " + b"e" * 200_000 + b"\n")
        sys.stderr.flush()
    if behaviour == "deep":
        raw(b'{"method":"session/update","params":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n")
    if behaviour == "strange":
        update(sessionUpdate="dance", steps=[1, 2, {"left": True}])
        send(method="weather/changed", params={"rain": True})
    if behaviour == "huge":
        piece = b"x" * (1 << 20)
        while True:
            raw(piece)
    if behaviour == "ask":
        choice = ask_permission()
        delta(f"permission: {choice}")
        if choice == "cancelled":
            return "cancelled"
        update(sessionUpdate="tool_call_update", toolCallId="tool-1", status="completed" if choice == "yes" else "failed")
    delta("".join(block.get("text", "") for block in prompt))
    for number in range(arguments.deltas):
        if behaviour == "crash" and number == arguments.deltas // 2:
            os._exit(7)
        if cancelled.is_set() and behaviour != "stubborn":
            return "cancelled"
        delta(f" {number}")
        time.sleep(arguments.delay)
    return "end_turn"


def serve(message: dict) -> None:
    global session, sessions
    method, number = message.get("method"), message.get("id")
    if number is None or method is None:
        return
    if method == "initialize":
        if behaviour != "mute":
            methods = [{"id": "oauth", "name": "Browser"}, {"id": "gateway", "name": "Gateway"}]
            send(id=number, result={"protocolVersion": 1, "authMethods": methods, "agentCapabilities": {}})
    elif method == "authenticate":
        if behaviour == "refuse":
            send(id=number, error={"code": -32000, "message": "no such gateway"})
        else:
            send(id=number, result=None)
    elif method == "session/new":
        sessions += 1
        session = f"session-{sessions}"
        send(id=number, result={"sessionId": session})
        if behaviour == "deaf":
            time.sleep(3600)
    elif method == "session/prompt":
        send(id=number, result={"stopReason": turn(message["params"]["prompt"])})
    elif method in ("session/set_mode", "session/set_model"):
        send(id=number, result={})
    else:
        send(id=number, error={"code": -32601, "message": f"no method {method}"})


if behaviour == "exit":
    sys.stderr.write("fake agent: told to exit\n")
    sys.exit(3)
threading.Thread(target=listen, daemon=True).start()
while (received := inbox.get()) is not None:
    serve(received)

"""A line-oriented program: says every prompt again, word by word. Python 3.11, standard library only.

    line_echo.py [--plain]

With --plain it answers in plain lines; otherwise in JSON lines with a `result` at the end. The prompt `fail` fails, `exit` exits.
"""

import json
import sys

plain = "--plain" in sys.argv


def say(kind: str, content: str) -> None:
    print(content if plain else json.dumps({"type": kind, "content": content}), flush=True)


for prompt in sys.stdin:
    words = prompt.split()
    if words == ["exit"]:
        sys.exit(5)
    if words == ["fail"]:
        say("error", "told to fail")
        continue
    say("thought", f"{len(words)} words")
    for word in words:
        say("message", word)
    if not plain:
        print(json.dumps({"type": "result"}), flush=True)

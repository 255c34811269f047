"""A scripted LLM API on loopback: real HTTP, with every way an API can behave well or badly.

In a test: `async with ScriptedServer("429,well") as server: … server.url …`; the first request is served in the first
mode, the second in the second, all further ones in the last. As a process of its own, for other tests and benches:
`python -m tests.llm_server --port 8000 --mode well --delay 0.02` prints its URL when it listens; `GET /status` tells
what it has counted.

The answer is known before it is asked: to "count 5" it is "1 2 3 4 5", to "say so" it is "so", to anything else
"You said: …". A message of the assistant at the end is continued.

- `shape`: what the APIs differ in, and the answer; `openai`, `anthropic`: the two shapes, with modes of their own
- `modes`: how an API behaves, whatever its shape
- `server`: the server
"""

from tests.llm_server.anthropic import ANTHROPIC
from tests.llm_server.openai import OPENAI
from tests.llm_server.server import ScriptedServer, serving

__all__ = ["ANTHROPIC", "OPENAI", "ScriptedServer", "serving"]

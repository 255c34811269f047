"""LLM APIs, one file each. Nothing is imported here: `settings` is cheap, `registry` loads the HTTP stack.

- `settings`: what the llm actor must be told, as it travels to it
- `base`: what a provider is
- `registry`: from `provider/name` to the provider
- `openai`: Chat Completions of OpenAI and everything compatible: vLLM, Ollama, llama.cpp, most gateways
- `anthropic`: the Messages API
- `local`: the embedded model, inside this process
- `remote`, `replies`: what the APIs over HTTP have in common
- `sse`, `client`, `refusals`, `answer`, `retrying`: server-sent events; the HTTP client; what refusals and broken
  connections mean; an answer as it grows, and its limits of time; when to ask again
"""

import sys

# httpx brings a command line of its own along, and with it rich and pygments where they are installed: 5 MB and 40 ms
# for every process that asks a model. It does without, as it does where they are missing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

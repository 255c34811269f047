"""LLM APIs, one file each. Nothing is imported here: `settings` is cheap, `registry` loads the HTTP stack.

- `settings`: what the llm actor must be told, as it travels to it
- `base`: what a provider is
- `registry`: from `provider/name` to the provider
- `openai`: Chat Completions of OpenAI and everything compatible: vLLM, Ollama, llama.cpp, most gateways
- `local`: the embedded model, inside this process
- `sse`, `client`, `refusals`, `answer`, `retrying`: server-sent events; the HTTP client; what refusals and broken
  connections mean; an answer as it grows, and its limits of time; when to ask again
"""

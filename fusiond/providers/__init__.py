"""LLM APIs, one file each. Nothing is imported here: `settings` is cheap, `registry` loads the HTTP stack.

- `settings`: what the llm actor must be told, as it travels to it
- `base`: what a provider is
- `registry`: from `provider/name` to the provider
- `openai`: Chat Completions of OpenAI and everything compatible: vLLM, Ollama, llama.cpp, most gateways
- `local`: the embedded model, inside this process
- `sse`, `http`, `errors`, `answer`, `retrying`: server-sent events, the HTTP client, what an API's refusals mean,
  an answer as it grows and its limits of time, and when to ask again
"""

"""What may be said between processes: message structs, the envelope and its codec. Imports errors only.

- `envelope`: the header of every message that passes a router or control socket
- `chat`: conversations and completions, the bodies of the agent's and the llm actor's verbs
- `approvals`: a person's word on what an agent wants to do
- `agents`: agents and their runs
- `tools`: tools, built in, of one's own or of MCP servers
- `sessions`: the bodies of the store's verbs
- `control`: what `supervisor.sock` answers: health, kill, restart, events
- `lifeline`: what the supervisor and its own processes say to each other

Every struct is frozen; a new field has a default; an old one never changes its meaning.
"""

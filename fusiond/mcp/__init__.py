"""MCP servers: the connection to one, and the one of our own."""

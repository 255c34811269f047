"""MCP servers: the connection to one, whose process ends with the actor that speaks to it.

The SDK is imported only by those who connect: it takes half a second and 40 MB.
"""

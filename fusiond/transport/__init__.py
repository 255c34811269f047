"""How bytes travel: ZeroMQ sockets on the asyncio loop, and requests over them that outlive a lost connection."""

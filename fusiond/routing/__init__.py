"""Who serves what, and what became of each request: a pure table. `now` is an argument, sending is a callback."""

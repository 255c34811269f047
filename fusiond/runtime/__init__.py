"""Performs what the supervision policy decides: processes, signals, sockets, the clock.

- `supervisor`: the loop between events and effects
- `processes`: starts actors from blank children, ends them, reaps them
- `forkserver` and `child`: the processes' side of that
- `tree`: which actors there are, from the configuration
- `control`: what `supervisor.sock` answers
- `journal`: the events on disk and to subscribers
- `linux`: what Python does not offer of the kernel
"""

"""What becomes of the actors, decided without touching any of them. PURE: no I/O, no clock, no chance.

`policy.step(state, event, now, jitter) -> (state, effects)` is the whole of it. The caller performs the
effects, feeds what comes of them back as events, and asks `policy.next_wake(state)` when a `Tick` is due.
`lifecycle` holds the rules.

- `spec`: what is to be kept alive, and how patiently
- `events`, `effects`: what goes in, what comes out
- `state`: one actor's child, and all of them together
- `lifecycle`: the table of states and events, with its theory
- `intensity`: the restart window and the back-off
- `turn`: one step under way
- `signs`, `lives`, `ends`: the actions that the table names
- `policy`: the door
"""

"""The actors: `base` says what one is, `life` keeps its lifeline, `host` connects it; then one file for each kind."""

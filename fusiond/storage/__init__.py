"""SQLite: the file, its schema, and what is asked of it. The store actor is the only writer.

- `database`: opening, transactions, life after a fault
- `group`: writes that arrive together are committed together
- `schema`: the tables and how they came about
- `sessions`: conversations, the queries behind the verbs of `fusiond.protocol.sessions`
- `search`: the same for `sessions.search`, page by page
- `names`: ids of sessions that a person can read and type
- `faults`: SQLite's and the disk's errors in words; they are translated here and nowhere else
"""

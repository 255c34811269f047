"""What is wrong with an installation, and what to do about it. Looks at everything itself and changes nothing.

- `case`: what is known before the first look: paths, the daemon and what it says, the configuration
- `finding`: what a check says
- `examine`: all checks, in their order
- the checks, one subject a file: `places`, `sockets`, `settings`, `model`, `provider`, `database`, `limits`, `daemon`

A check is a function from the case to findings. It may raise whatever the subject raises: that is a finding too.
"""

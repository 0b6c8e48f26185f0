"""The node's one HTTP listener: what is public of the ledger, read-only.

- `routes`: which request names which thing; pure.
- `answers`: what each thing is, with its headers.
- `listener`: connections, limits and errors, around h11's parser.
- `asking`: the other direction, one bounded request to somebody outside.

GET and HEAD only. No path of a client ever becomes a path of the file system.
"""

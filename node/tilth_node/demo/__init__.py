"""`tilth demo`: three hospitals on this machine, from keys to a verified leaderboard.

- command.py: the command; play.py: what it does, and its clean-up;
- tilth_node.consortium makes keys and genesis, starts and stops the three node processes;
- user-code/: what people write: data, opener, algorithms, and the session that uses the SDK as a
  user does. It runs as a process of its own and is no part of this package (the folder's name is no
  module name), because the node imports neither the SDK nor numpy.
"""

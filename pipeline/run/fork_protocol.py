"""What the supervisor and its fork server agree on (:mod:`pipeline.run.fork_server_process`)."""

import struct

READY = b"ready"
FORKED = struct.Struct("=iii")
"""The error's number or 0, the stage's process, and the one in the middle."""
LONGEST_NAME = 4096
"""Bytes of a request."""
EXIT_UNFIT = 3
"""A module can't be imported: a stage that needs it and is started directly says why. Or one has
started a thread or opened a file, which a fork would lose or share."""

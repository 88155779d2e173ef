"""Bridges: what a running program publishes, brought to where people live, with nothing lost.

A bridge is a process of its own. It listens to the program's public sockets, hands one record after
the other to a *receiver* (a file, a webhook, a notification service, a broker), waits until the
receiver has it for good, and only then moves its durable *cursor*. The event log is its spool.
"""

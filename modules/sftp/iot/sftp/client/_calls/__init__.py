"""The calls of a session: its operations, retried by a policy, over one connection that they share."""

"""The calls of a session: retried by a policy, over one connection that they share."""

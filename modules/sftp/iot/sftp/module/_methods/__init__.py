"""Direct methods: the table, the dispatcher, idempotency keys."""

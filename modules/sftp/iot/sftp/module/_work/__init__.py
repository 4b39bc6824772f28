"""Work under way: the session in use, slots, tasks, journal, delivery ledger, messages."""

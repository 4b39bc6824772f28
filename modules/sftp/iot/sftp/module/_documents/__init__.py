"""What people write, as models: the twin's sections, rules, requests; their validation."""

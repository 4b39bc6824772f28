"""What looks at everything: the configuration in force, status, metrics, checks."""

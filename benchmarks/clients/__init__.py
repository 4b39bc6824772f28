"""The clients that are Python libraries, each a script that runs as a process of its own."""

"""Side by side with OpenSSH, asyncssh, rclone, lftp and pysftp: `make bench`, or `python -m benchmarks --help`."""

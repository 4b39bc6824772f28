"""Files on either side: remote (SFTP version 3), local (openat), listings, versions."""

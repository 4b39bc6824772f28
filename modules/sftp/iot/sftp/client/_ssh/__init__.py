"""One SSH connection: dial, host keys, login, transport, and SFTP's packets and channels."""

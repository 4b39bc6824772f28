"""Errors and what each implies, settings, deadlines, the memory limit: what every room uses."""

import iot.sftp.client._base.paramiko  # noqa: F401 - before anything else imports paramiko

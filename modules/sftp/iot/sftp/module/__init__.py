"""The IoT Edge module: direct methods in, SFTP out. Started with `python -m iot.sftp.module`."""

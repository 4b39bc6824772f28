"""What a device pays: memory, wake-ups, processor time, bytes on the wire and in the flash; `make footprint`."""

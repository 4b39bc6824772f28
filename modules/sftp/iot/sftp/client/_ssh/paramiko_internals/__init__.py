"""paramiko's transport, adapted: the one place that reaches into private parts of paramiko.

paramiko copies each byte about eight times (it joins what it receives, slices messages, keeps arrays in
pipes) and hands each packet from one thread to another. Here, for AES-GCM and ChaCha20-Poly1305:

- Received data goes into one buffer, is decrypted into another, and a view of that is passed to the consumer of the
  channel, in the thread that reads: paramiko's own, or that of a caller who waits alone.
- Sent data is assembled in one buffer, encrypted into another, and written to the socket from there.

Every other cipher, and with AES-GCM every message that is not channel data, takes paramiko's own path.

The private parts that are used:

| of | parts |
| --- | --- |
| `Transport` | `_check_banner`, `_verify_key`, `_parse_disconnect`, `_parse_ext_info`, `_parse_kex_init`, `_really_parse_kex_init`, `_negotiate_keys`, `_send_kex_init`, `_send_message`, `_send_user_message`, `_cipher_info`, `_kex_info`, `_preferred_kex`, `auth_handler` with its `_handler_table`, `clear_to_send` and its lock, `completion_event` |
| `Channel` | `_wait_for_send_window`, `_check_add_window`, `in_buffer`, `in_stderr_buffer` |
| `Packetizer` | `_read_timeout`, `_inc_iv_counter`, `_trigger_rekey`, and the attributes declared in `packetizers.py` that begin with `_Packetizer__` |

pyproject.toml bounds the versions; `tests/client/ssh/test_private_parts.py` fails when one of the parts moves.
"""  # noqa: E501 - rows of a table

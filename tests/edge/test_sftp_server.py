"""The SFTP server of the runtime."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from localedge import LocalEdge, SftpServer, StartError


async def contents(server: SftpServer, **credentials: object) -> tuple[bytes, list[str]]:
    async with (
        asyncssh.connect(
            server.address, server.port, username=server.user, known_hosts=None, config=None, **credentials
        ) as connection,
        connection.start_sftp_client() as client,
    ):
        names = [str(name) for name in await client.glob("/*.txt")]
        async with client.open("/hello.txt", "rb") as file:
            return await file.read(), sorted(names)


def test_it_serves_sample_files_to_its_user_and_points_the_module_to_itself(address: str) -> None:
    with LocalEdge(address=address, sftp_server=True, start_module=False) as edge:
        server = edge.sftp_server
        assert edge.desired["sftp"] == {
            "host": address,
            "port": server.port,
            "user": server.user,
            "password": server.password,
        }
        content, names = asyncio.run(contents(server, password=server.password, client_keys=None))
        assert content == b"Hello from the SFTP server.\n"
        assert names == ["/hello.txt", "/readme.txt"]


def test_it_refuses_a_wrong_password(address: str) -> None:
    with (
        LocalEdge(address=address, sftp_server=True, start_module=False) as edge,
        pytest.raises(asyncssh.PermissionDenied),
    ):
        asyncio.run(contents(edge.sftp_server, password="wrong", client_keys=None))


def test_it_admits_a_key(tmp_path: Path, address: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "hello.txt").write_bytes(b"x")

    async def check() -> None:
        server = SftpServer(tmp_path, address, public_key=key.export_public_key().decode())
        await server.start()
        try:
            assert await contents(server, client_keys=[key]) == (b"x", ["/hello.txt"])
        finally:
            await server.stop()

    asyncio.run(check())


def test_it_can_go_away_and_come_back_as_the_same_server(address: str) -> None:
    with LocalEdge(address=address, sftp_server=True, start_module=False) as edge:
        server = edge.sftp_server

        async def lose_a_connection() -> None:
            async with asyncssh.connect(
                server.address,
                server.port,
                username=server.user,
                password=server.password,
                known_hosts=None,
                config=None,
                client_keys=None,
            ) as connection:
                await asyncio.get_running_loop().run_in_executor(None, edge.stop_sftp_server)
                await connection.wait_closed()

        for _ in range(2):
            asyncio.run(lose_a_connection())
            with pytest.raises(ConnectionRefusedError):
                asyncio.run(contents(server, password=server.password, client_keys=None))
            edge.start_sftp_server()
            assert asyncio.run(contents(server, password=server.password, client_keys=None))[1]


def test_a_runtime_without_one_says_how_to_get_it(empty_edge: LocalEdge) -> None:
    assert not empty_edge.has_sftp_server
    with pytest.raises(StartError, match="sftp_server=True"):
        _ = empty_edge.sftp_server

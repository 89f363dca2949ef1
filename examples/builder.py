"""The demo's builder: an SSH server with one bare repository, in the place of a platform that builds what is pushed.

    python -m examples.builder DIRECTORY

Makes, in the directory, a host key and a key to push with, each new, and ``shop.git``; says on standard output, in one
line of JSON, where it listens and what its host key is. It lets that one key in, and runs nothing but git.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import asyncssh

from drycc_proxy.ssh.commands import CommandRefused, parse

__all__ = ["main"]

HOOK = """#!/bin/sh
while read before after name; do
    echo "-----> $name is here. A real builder would make an image of it now and let the platform run it."
done
"""


def main(arguments: list[str]) -> None:
    """Serve until somebody ends it."""
    asyncio.run(_serve(Path(arguments[0])))


def prepare(directory: Path) -> asyncssh.SSHKey:
    """Make the repository and the developer's key; returns the host key."""
    directory.mkdir(parents=True, exist_ok=True)
    repository = directory / "shop.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(repository)], check=True)
    hook = repository / "hooks" / "post-receive"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    key = asyncssh.generate_private_key("ssh-ed25519", comment="demo")
    for path, mode, data in (
        (directory / "key", 0o600, key.export_private_key()),
        (directory / "key.pub", 0o644, key.export_public_key()),
    ):
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    return asyncssh.generate_private_key("ssh-ed25519", comment="demo builder")


async def _serve(directory: Path) -> None:
    host_key = prepare(directory)
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=str(directory / "key.pub"),
        process_factory=lambda process: _git(directory, process),
        encoding=None,
        allow_pty=False,
    )
    said = {"port": server.get_port(), "host_key": host_key.export_public_key().decode().strip()}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    await server.wait_closed()


async def _git(directory: Path, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run git in the repository, joined with the session."""
    try:
        command = parse(process.command)
    except CommandRefused as refused:
        process.stderr.write(f"{refused}\n".encode())
        process.exit(128)
        return
    pipe = asyncio.subprocess.PIPE
    git = await asyncio.create_subprocess_exec(
        command.service, str(directory / f"{command.app}.git"), stdin=pipe, stdout=pipe, stderr=pipe
    )
    await process.redirect(stdin=git.stdin, stdout=git.stdout, stderr=git.stderr)
    status = await git.wait()
    await process.stdout.drain()
    await process.stderr.drain()
    process.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])

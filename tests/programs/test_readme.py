"""What README.md shows of the programs in a shell is what they do, in both languages."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import unittest

from pairs import OURS, ROOT, Case, launch


class Readme(Case):
    def test_the_transcript(self) -> None:
        readme = (ROOT / "README.md").read_text()
        transcript = re.search(r"## In a shell\n.*?```\n(.*?)```", readme, re.S)
        assert transcript is not None
        lines = transcript[1].splitlines()
        seal = ("--seal", "--key-file", "key", "--name", "lab")
        self.assertIn(f"`exec_server --port 7002 {' '.join(seal)}`", transcript[0])

        def check(server: str, client: str) -> None:
            directory = self.directory / f"{server}-{client}"
            (directory / "root").mkdir(parents=True)
            commands = launch.program(server, "exec_server")
            files = launch.program(server, "file_server", "--root", str(directory / "root"))
            (directory / "key").touch(0o600)
            (directory / "key").write_bytes(os.urandom(32))
            sealed = launch.program(server, "exec_server", *seal)
            with (
                launch.server(commands) as first,
                launch.server(files) as second,
                launch.server(sealed, str(directory)) as third,
            ):
                script = ["umask 022", "exec 2>&1"]
                for name in ("exec_client", "file_client"):
                    ours = shlex.join(launch.program(client, name))
                    script.append(f'{name}() {{ {ours} "$@"; }}')
                for line in lines:
                    if line.startswith("$ "):
                        script += [f"echo {shlex.quote(line)}", line[2:]]
                servers = {7000: first, 7001: second, 7002: third}
                ports = {f"localhost {port}": one.address for port, one in servers.items()}
                text = "\n".join(script)
                for shown, address in ports.items():
                    text = text.replace(f"{shown} ", " ".join(address) + " ")
                seen = run_script(text, directory)
                for shown, address in ports.items():
                    seen = seen.replace(" ".join(address), shown)
            self.assertEqual(seen.replace("\r", "").splitlines(), lines)

        self.each(OURS, check)


def run_script(text: str, directory: pathlib.Path) -> str:
    shell = subprocess.run(
        ["sh", "-c", text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=directory,
        env=launch.ENVIRONMENT,
        text=True,
        timeout=launch.SECONDS,
    )
    return shell.stdout


if __name__ == "__main__":
    unittest.main()

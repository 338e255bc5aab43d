"""What a session may reach beyond itself: variables and a way out, each only as granted."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import InvalidInputError, SandboxUnavailableError
from pythonic_assistant.ports import Access
from tests.sandbox.granted import CERTIFICATE, Box, Greeter, value

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_variables_reach_the_code_and_its_children_and_nobody_else(sandbox: NamespaceSandbox) -> None:
    access = Access(environment={"GITHUB_TOKEN": "PLACEHOLDER_x", "EMPTY": "", "ODD": "a b=ü\n'\""})
    async with await sandbox.open(access=access) as session:
        assert await value(session, "import os; os.environ['GITHUB_TOKEN'], os.environ['ODD']") == repr(
            ("PLACEHOLDER_x", "a b=ü\n'\"")
        )
        child = "import subprocess; subprocess.run(['printenv', 'GITHUB_TOKEN'], capture_output=True).stdout"
        assert await value(session, child) == "b'PLACEHOLDER_x\\n'"
        look = (
            "found = []\n"
            "for name in ('environ', 'cmdline'):\n"
            "    for who in ('1', 'self'):\n"
            "        try: found.append(b'PLACEHOLDER_x' in open(f'/proc/{who}/{name}', 'rb').read())\n"
            "        except PermissionError: found.append(False)\n"
            "any(found)"
        )
        assert await value(session, look) == "False"
    async with await sandbox.open() as other:
        assert await value(other, "import os; 'GITHUB_TOKEN' in os.environ") == "False"


@pytest.mark.parametrize(
    "environment",
    [
        {"": "x"},
        {"1A": "x"},
        {"A B": "x"},
        {"A=B": "x"},
        {"A\0": "x"},
        {"A\n": "x"},
        {"Ü": "x"},
        {"PATH": "x"},
        {"LD_PRELOAD": "x"},
        {"PYTHONPATH": "x"},
        {"https_proxy": "x"},
        {"SSL_CERT_FILE": "x"},
        {"A": "x\0"},
        {"A": "\ud800"},
        {"A": "x" * 200_000},
        {f"A{n}": "x" * 100_000 for n in range(10)},
    ],
)
async def test_impossible_variables_are_refused(
    sandbox: NamespaceSandbox, environment: dict[str, str]
) -> None:
    with pytest.raises(InvalidInputError, match="environment"):
        await sandbox.open(access=Access(environment=environment))


async def test_without_a_way_out_there_is_no_network(session: NamespaceSession) -> None:
    code = (
        "import os, socket\n"
        "try: socket.create_connection(('127.0.0.1', 3128), timeout=1); r = 'connected'\n"
        "except OSError as e: r = e.errno\n"
        "r, 'HTTPS_PROXY' in os.environ, 'SSL_CERT_FILE' in os.environ, os.path.exists('/run/authority.pem')"
    )
    assert await value(session, code) == "(101, False, False, False)"  # ENETUNREACH


async def test_the_way_out_is_served_by_the_host_for_as_long_as_the_session_lives(
    sandbox: NamespaceSandbox,
) -> None:
    egress = Greeter()
    session = await sandbox.open(access=Access(egress=egress))
    assert egress.serving
    code = (
        "import urllib.request, urllib.error\n"
        "try: urllib.request.urlopen('http://example.com/', timeout=3)\n"
        "except urllib.error.HTTPError as e: r = e.code, e.read()\n"
        "r"
    )
    assert await value(session, code) == "(403, b'hello')"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    shown = f"import os; [os.environ[n] for n in {[*names, *(n.lower() for n in names)]}]"
    assert await value(session, shown) == repr(["http://127.0.0.1:3128"] * 6)
    assert await value(session, "os.environ['NO_PROXY'], os.environ['no_proxy']") == "('', '')"
    elsewhere = (
        "import socket\n"
        "try: r = socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
        "except OSError as e: r = e.errno\nr"
    )
    assert await value(session, elsewhere) == "101"
    assert egress.served == 1
    await session.close()
    assert not egress.serving


async def test_the_certificate_is_trusted_and_cannot_be_changed(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open(access=Access(egress=Greeter())) as session:
        code = (
            "import os\n"
            "names = ('SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE', 'AWS_CA_BUNDLE', "
            "'GIT_SSL_CAINFO', 'NODE_EXTRA_CA_CERTS')\n"
            "{open(os.environ[n]).read() for n in names}"
        )
        assert await value(session, code) == repr({CERTIFICATE})
        for attempt in (
            "open(place, 'a')",
            "os.unlink(place)",
            "os.rename('/tmp', '/run')",
            "os.chmod(place, 0o666)",
            "open('/run/other', 'w')",
        ):
            tried = await session.execute(f"place = os.environ['SSL_CERT_FILE']; {attempt}", timeout=5)
            assert tried.outcome == "error", attempt


async def test_an_egress_that_does_not_start_is_told_and_leaves_nothing(sandbox: NamespaceSandbox) -> None:
    class Broken(Greeter):
        @asynccontextmanager
        async def serve(self, listener: socket.socket) -> AsyncGenerator[None, None]:
            listener.close()
            raise ConnectionRefusedError("no broker")
            yield

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SandboxUnavailableError, match="no broker"):
        await sandbox.open(access=Access(egress=Broken()))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_descriptors_of_access_do_not_leak(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    access = Access(environment={"A": "b"}, egress=Greeter(), toolbox=Box())
    for _ in range(3):
        async with await sandbox.open(access=access, folder=tmp_path) as session:
            await session.execute("add(1, 2)", timeout=5)
    assert len(os.listdir("/proc/self/fd")) == before

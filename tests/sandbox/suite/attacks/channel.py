"""Descriptor 3, over which the host asks and the session answers."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import Attack


def _attack(name: str, code: str, **more: Any) -> Attack:
    return Attack(
        name=name,
        group="control channel",
        code=code,
        meaning="the host hangs, runs out of memory, or believes what was never asked",
        stopped_by=("host",),
        **more,
    )


_ENDED = ("control channel",)
_WAIT = "\ntime.sleep(4)\nreturn 'the host believed it'"


def _ends(name: str, code: str) -> Attack:
    return _attack(name, code + _WAIT, death=_ENDED)


def _forges(name: str, code: str) -> Attack:
    return _attack(name, code, forged=True)


ATTACKS = (
    _ends("no JSON", "message(b'abcd')"),
    _ends("a huge length", "os.write(3, struct.pack('!I', 0xFFFFFFFF))"),
    _ends(
        "a length that is allowed, and no end",
        "os.write(3, struct.pack('!I', 9 << 20))",
    ),
    _ends(
        "nested too deeply",
        "d = b'[' * 200000\nos.write(3, struct.pack('!I', len(d)))\n"
        "for i in range(0, len(d), 50000): os.write(3, d[i:i+50000])",
    ),
    _ends(
        "objects nested too deeply",
        "d = b'{\"a\":' * 100000\nos.write(3, struct.pack('!I', len(d)))\n"
        "for i in range(0, len(d), 50000): os.write(3, d[i:i+50000])",
    ),
    _ends("a list", "message(b'[]')"),
    _ends("an object without an id", "message(b'{\"ok\": true}')"),
    _ends("an id that was not asked", 'message(b\'{"id": 999999, "ok": true}\')'),
    _ends("an id of another kind", 'message(b\'{"id": [1], "ok": true}\')'),
    _ends("bytes that are no text", "message(b'\\xff\\xfe\\xfd')"),
    _ends("a number of ten thousand digits", "message(b'9' * 10000)"),
    _ends("no bytes at all", "message(b'')"),
    _ends("closing it", "os.close(3)"),
    _ends("shutting it down", "socket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_RDWR)"),
    _ends("output into it", "os.dup2(3, 1)\nprint('x' * 100, flush=True)"),
    _ends("standard error into it", "os.dup2(3, 2)\nsys.stderr.write('x' * 100); sys.stderr.flush()"),
    _forges(
        "values of the wrong types",
        "message(json.dumps({'id': 1, 'ok': 'yes', 'value': ['x'], 'error': {'a': 1}, "
        "'interrupted': [1], 'variables': 5}).encode())",
    ),
    _forges(
        "an answer before it was asked",
        "message(json.dumps({'id': 1, 'ok': True, 'value': 'now'}).encode())\n"
        "message(json.dumps({'id': 2, 'ok': True, 'value': 'later', "
        "'variables': [{'name': 5}, 6, {'name': 'x' * 1000000}]}).encode())",
    ),
    _forges(
        "numbers that are none",
        'message(b\'{"id": 1, "ok": true, "value": NaN, "error": Infinity}\')',
    ),
    _forges(
        "text that cannot be stored",
        'message(b\'{"id": 1, "ok": true, "value": "\\\\ud800\\\\u0000", "error": ""}\')',
    ),
    _forges(
        "the largest message",
        'd = b\'{"id": 1, "ok": true, "value": "\' + b\'x\' * (8300000) + b\'"}\'\n'
        "os.write(3, struct.pack('!I', len(d)))\n"
        "at = 0\nwhile at < len(d): at += os.write(3, d[at:at + 65536])",
    ),
    _forges(
        "descriptors beside it",
        "d = json.dumps({'id': 1, 'ok': True}).encode()\n"
        "s = socket.socket(fileno=os.dup(3))\n"
        "socket.send_fds(s, [struct.pack('!I', len(d)) + d], [0] * 100)",
    ),
    _forges(
        "an answer from a process that it left",
        "if os.fork() == 0:\n"
        '    time.sleep(0.3)\n    message(b\'{"id": 2, "ok": true, "value": "false"}\')\n    os._exit(0)\n'
        "raise OSError('later')",
    ),
    _forges(
        "half a message",
        "os.write(3, struct.pack('!I', 100) + b'{')\nos._exit(0)",
    ),
    _forges(
        "operations of the host",
        "for word in ('rollback', 'successor', 'ready', 'end', 'tool', 'execute'):\n"
        "    message(json.dumps({'id': 1, 'event': word, 'op': word, 'call': 1, 'name': word}).encode())",
    ),
)

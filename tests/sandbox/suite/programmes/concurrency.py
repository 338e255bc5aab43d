"""Threads, processes, and programmes that are started."""

from __future__ import annotations

from tests.sandbox.suite.programmes.programme import programme

PROGRAMMES = (
    programme(
        "threads",
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as p: r = list(p.map(lambda x: x * x, range(5)))\nr",
        "[0, 1, 4, 9, 16]",
    ),
    programme(
        "locks, queues, events",
        "import queue, threading\nq = queue.Queue(); e = threading.Event()\n"
        "t = threading.Thread(target=lambda: (e.wait(5), q.put(7))); t.start(); e.set(); t.join()\n"
        "q.get(timeout=5)",
        "7",
    ),
    programme(
        "asyncio",
        "import asyncio\nasync def f(n):\n    await asyncio.sleep(0.01)\n    return n\n"
        "async def g(): return await asyncio.gather(*(f(n) for n in range(5)))\n"
        "asyncio.run(g())",
        "[0, 1, 2, 3, 4]",
    ),
    programme(
        "asyncio with a thread and a process",
        "import asyncio\nasync def f():\n"
        "    p = await asyncio.create_subprocess_exec('echo', 'hi', "
        "stdout=asyncio.subprocess.PIPE)\n    out, _ = await p.communicate()\n"
        "    return out, await asyncio.to_thread(lambda: 5)\nasyncio.run(f())",
        "(b'hi\\n', 5)",
    ),
    programme(
        "processes",
        "import multiprocessing\ndef double(x): return 2 * x\n"
        "with multiprocessing.Pool(2) as p: r = p.map(double, [1, 2])\nr",
        "[2, 4]",
        boxed=True,
    ),
    programme(
        "processes that are spawned",
        "open('work.py', 'w').write('def triple(x): return 3 * x')\nimport work\n"
        "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing\n"
        "with ProcessPoolExecutor(2, "
        "mp_context=multiprocessing.get_context('spawn')) as p: r = list(p.map(work.triple, [1, "
        "2]))\nr",
        "[3, 6]",
        boxed=True,
    ),
    programme(
        "shared memory",
        "from multiprocessing import shared_memory\n"
        "s = shared_memory.SharedMemory(create=True, size=100); s.buf[0] = 7; r = s.buf[0]\n"
        "s.close(); s.unlink()\nr",
        "7",
        boxed=True,
    ),
    programme(
        "subprocess",
        "import subprocess\nsubprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout",
        "'hi\\n'",
    ),
    programme(
        "shell",
        "import subprocess\nsubprocess.run('printf \"b\\\\na\\\\n"
        "\" | sort | head -1', shell=True, capture_output=True, text=True).stdout",
        "'a\\n'",
    ),
    programme(
        "child interpreter",
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import numpy; print(numpy.arange(3).sum())'], "
        "capture_output=True, text=True).stdout",
        "'3\\n'",
    ),
    programme(
        "no fonts are searched in child processes",
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import matplotlib.font_manager'], "
        "capture_output=True, text=True).stderr",
        "''",
    ),
    programme(
        "alarm",
        "import signal, time\nseen = []\n"
        "signal.signal(signal.SIGALRM, lambda *a: seen.append(1)); "
        "signal.setitimer(signal.ITIMER_REAL, 0.02); time.sleep(0.1)\nseen",
        "[1]",
    ),
)

"""How a command begins and ends."""

import subprocess
import sys


def test_what_waits_for_the_end_is_done_before_a_quick_one():
    program = (
        "import atexit, threading, time; from losslens.console import leave; "
        "atexit.register(print, 'at the end'); "
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start(); "
        "print('printed', end=' '); leave()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "printed thread\nat the end\n")


def test_a_profiler_comes_to_its_end(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("from losslens.console import leave; leave(); print('goes on')")
    done = subprocess.run([sys.executable, "-m", "cProfile", program], capture_output=True, text=True)
    assert "goes on" in done.stdout
    assert "function calls" in done.stdout

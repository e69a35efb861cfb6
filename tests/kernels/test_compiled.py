"""The kernels compile for CUDA devices, also where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.slow
def test_kernels_compile(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).parent / "compile_all.py"
    done = subprocess.run([sys.executable, "-W", "error", script], env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    names = {line.split()[0] for line in done.stdout.splitlines()}
    assert names == {
        *("_linf_step", "_l2_move", "_l2_project", "_momentum", "_uniform"),
        *("_keep_better", "_extrapolate", "_project", "_best_pair_kernel", "_lead_kernel"),
    }

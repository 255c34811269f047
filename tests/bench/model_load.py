"""The embedded model's own load time, in this fresh process, its imports done. Arguments: its name and its file.

Prints the seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from fusiond.providers.local import LocalModel


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fusion-bench-") as folder:
        model = LocalModel(sys.argv[1], Path(sys.argv[2]), Path(folder))
        began = time.perf_counter()
        model.load()
        print(time.perf_counter() - began, flush=True)
    os._exit(0)  # llama.cpp's own end is not what is measured


if __name__ == "__main__":
    main()

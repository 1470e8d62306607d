"""How long `counterpoint --help` takes as a whole process: median of eleven.

python benchmarks/help.py
"""

import statistics
import subprocess
import sys
import time


def main() -> None:
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "counterpoint", "--help"], stdout=subprocess.DEVNULL, check=True
        )
        seconds.append(time.perf_counter() - start)
    print(f"counterpoint --help: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")


if __name__ == "__main__":
    main()

"""However many images there are, as much memory is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
from pathlib import Path
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate

given = ["image.native_box=40", "image.native_pixel_size=6.0", "noise.pool=16"]
scenario = adapt_scenario("tiny", particles=int(sys.argv[1]), box=40, snr_db=float("inf"), settings=given)
simulate(scenario, Path(sys.argv[2]), jobs=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_ten_times_the_images_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for particles in (4096, 40960):  # 26 and 262 MB of images
        command = [sys.executable, "-c", SCRIPT, str(particles), str(tmp_path / str(particles))]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.1 * peaks[0], f"peak memory in KiB: {peaks}"

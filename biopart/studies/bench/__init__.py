"""Benchmarks.

Compared calls alternate in one process (A B A B ...), after one round that is not counted; numbers
are medians of wall time, with the limit that they should keep beside them. Nights
are simulated or random: these numbers measure speed, not quality.
"""

from biopart.studies.bench.beside import bench_beside
from biopart.studies.bench.gpu import bench_gpu
from biopart.studies.bench.images import bench_images
from biopart.studies.bench.objectives import bench_objectives
from biopart.studies.bench.part import bench_part
from biopart.studies.bench.signals import bench_signals
from biopart.studies.bench.teachers import bench_teachers

__all__ = [
    "bench_beside",
    "bench_gpu",
    "bench_images",
    "bench_objectives",
    "bench_part",
    "bench_signals",
    "bench_teachers",
]

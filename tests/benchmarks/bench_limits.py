"""How long it takes to tell what each kernel takes of the hardware: `layer_limits` of a long run, drawn in memory.

    python tests/benchmarks/bench_limits.py                      # 10 s of samples at 10 kHz, 137 kernels a request
    python tests/benchmarks/bench_limits.py --seconds 1 --kernels 20

Prints seconds of wall and of processor time for the whole, and by how many points the shares are off.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pyarrow as pa

from nsight_tools import Trace, layer_limits
from nsight_tools.tables import TABLES

METRICS = {
    "SMs Active": "sms_active",
    "SM Issue": "sm_issue",
    "Tensor Active": "tensor_active",
    "DRAM Read": "dram_read",
}
OTHERS = 18
"""Metrics that are sampled besides: a set of an H200 has 22."""


def table(of: str, /, **columns: object) -> pa.Table:
    """A table of the dataset of these columns; all others are null, or nothing."""
    schema = TABLES[of].schema
    rows = len(np.atleast_1d(next(iter(columns.values()))))  # type: ignore[call-overload]
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        if value is None:
            plain = None if field.nullable else "" if pa.types.is_dictionary(field.type) else 0
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            one = pa.array([plain] * rows, kind) if plain != 0 else pa.array(np.zeros(rows)).cast(kind)
            arrays.append(one.dictionary_encode().cast(field.type) if pa.types.is_dictionary(field.type) else one)
        elif isinstance(value, tuple):
            codes, words = value
            arrays.append(
                pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words)).cast(field.type)
            )
        else:
            arrays.append(pa.array(value).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def drawn(seconds: float, kernels: int, hz: int) -> tuple[Trace, np.ndarray]:
    """The run, and the share of each kernel, (kernels, metrics)."""
    random = np.random.default_rng(0)
    long = random.integers(2_000, 20_000, kernels)
    share = random.random((kernels, len(METRICS)))
    requests = int(seconds * 1e9 / (long.sum() + 1_000 * kernels + 50_000))
    gaps = random.integers(500, 1500, (requests, kernels))
    gaps[:, 0] += random.integers(0, 100_000, requests)
    end = np.cumsum((gaps + long).ravel())
    start = end - np.tile(long, requests)
    of, request = np.tile(np.arange(kernels), requests), np.repeat(np.arange(requests), kernels)
    names = [f"kernel {at}" for at in range(kernels)]
    period = 10**9 // hz
    sampled = np.arange(0, int(end[-1]), period)
    edges = np.stack([start, end], axis=1).ravel()
    values = []
    for column in range(len(METRICS)):
        level = 100 * share[of, column] * long[of]
        area = np.append(0, np.cumsum(np.stack([level, np.zeros(len(level))], axis=1).ravel()[:-1]))
        values.append(np.rint(np.diff(np.interp([sampled, sampled + period], edges, area), axis=0)[0] / period))
    count = len(METRICS) + OTHERS
    value = np.concatenate([np.stack(values, axis=1), np.zeros((sampled.size, OTHERS))], axis=1).ravel()
    words = [f"{name} [Throughput %]" for name in METRICS] + [f"Other {at} [Throughput %]" for at in range(OTHERS)]
    code = np.tile(np.arange(count), sampled.size)
    means = (np.where(code < len(METRICS), code, len(METRICS)), [*METRICS.values(), "active"])
    rows = np.arange(start.size)
    first, last = start.reshape(requests, kernels)[:, 0], end.reshape(requests, kernels)[:, -1]
    zero = np.zeros(requests, np.int64)
    tables = {
        "gpus": table("gpus", device=np.zeros(1, np.int64)),
        "kernels": table("kernels", start_ns=start, end_ns=end, name=(of, names), short_name=(of, names), grid_x=of),
        "launches": table(
            "launches", start_ns=start, end_ns=end, work=(0 * of, ["kernel"]), row=rows, inference=request,
            layer=(of, names),
        ),
        "inferences": table(
            "inferences",
            inference=np.arange(requests), start_ns=first, end_ns=last, wall_ns=last - first,
            kernels=zero + kernels, device=zero, population=zero, source=(zero, ["range"]),
        ),
        "gpu_metrics": table(
            "gpu_metrics", time_ns=np.repeat(sampled, count), metric=(code, words), value=value, means=means
        ),
    }  # fmt: skip
    return Trace.from_tables(tables), share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--kernels", type=int, default=137)
    parser.add_argument("--hz", type=int, default=10_000)
    asked = parser.parse_args()
    trace, share = drawn(asked.seconds, asked.kernels, asked.hz)
    wall, cpu = time.perf_counter(), time.process_time()
    found = layer_limits(trace).to_pandas()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    mine = found[(found["of"] == "kernel") & (found["metric"] == "sms_active")]
    off = 100 * np.abs(mine["share"].to_numpy() - share[:, 0])
    print(f"{asked.seconds * asked.hz:,.0f} samples, {trace.rows('kernels'):,} kernels of {asked.kernels} positions")
    print(f"wall s {wall:.2f}, processor s {cpu:.2f}; points off: median {np.median(off):.2f}, most {off.max():.2f}")


if __name__ == "__main__":
    main()

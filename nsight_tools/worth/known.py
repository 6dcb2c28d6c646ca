"""What is known of runs without the profiler, from runs that were measured with and without it: `worth`'s constants.

Machines are virtual ones with one NVIDIA H200 each, TensorRT 8.6, Nsight Systems 2025.3: A ran the 15 captures of a
detector (det), resnet50 and bert; B the captures of a classifier (cls) and a detector in `sample_traces`; C trtexec.
A range is an engine's, the likely value the mean over engines. "Left out" says how wrong that mean is for the engine
that it was made without. `tests/benchmarks/promises.py` makes the ranges with the engine left out that it scores.
"""

from __future__ import annotations

from nsight_tools.worth.ranges import Range

FLOOR_NS = 3_000.0
"""Host time of a launch without the profiler, at the least: 3.8 to 7.0 µs in 16 runs of five engines on A, B and C.
What a traced launch takes longer may all be tracing. Off by two, the least wall of a host-bound run is 10 % off."""
SHARES = {"det": 0.41, "resnet50": 0.40, "bert": 0.63, "cls": 0.68}
"""Of what a traced launch takes longer than the floor, what was tracing, by engine: means of five captures of det on A
and one on B (-0.05 to 0.79), of two each of resnet50 (0.38, 0.41) and bert (0.59, 0.67) on A and of cls (0.53, 0.82) on
B; the captures with four threads left out."""
SHARE = sum(SHARES.values()) / len(SHARES)
"""The same of another engine, likely. Left out, wrong by 0.16, 0.17, 0.13 and 0.20: a microsecond a launch, and by 2.5
in single runs. Off by two, the likely wall of a host-bound run is 15 % off; its interval takes no notice."""
LIKELY_NS = 3_000.0
"""No more than this is likely: 3.1 is the average over the eight of those captures whose launches take 7.5 µs and more,
and eager frameworks have launches of 30. Off by two: 250 µs of a request of 165 launches."""
MOST_NS = 5_000.0
"""What tracing adds to a launch at most, in one thread: 4.3, 4.3 and 4.4 on C, -0.2 to 4.9 in those twelve captures;
5.7 and more with four threads. Off by two, so are the intervals of host-bound runs."""
OTHER_SHARE = Range(0.1, 0.45, 0.75)
"""Of the calls that launch no kernel (copies, records of events, queries), what share is tracing: on A a record takes 2
to 13 µs traced and some 1.5 without, a copy's call 7 to 16 and some 4. A judgement by those two; with it the walls of
five graphs of four engines on A and B, which make few other calls, are told 1 to 4 % off. Off by two: 10 µs of a
request."""
RANGE_NS = Range(300, 800, 3_000)
"""An NVTX range: 0.4 to 0.8 µs from TensorRT's own code on A, B and C, 3 from Python on A. Off by two: 30 µs of a
request of 80 ranges."""
GRAPH_LAUNCH_NS = Range(4_000, 9_000, 16_000)
"""Launching a CUDA graph, whatever its nodes: 5 to 12 µs in eight runs of four engines (90 to 137 nodes) on A and B,
from Python; 3 to 6 on C. Left out, an engine's is 5 µs off at most. Off by two: 10 µs of a request, mostly behind its
copy."""
GRAPH_LATENCY_NS = Range(-5_000, 1_000, 6_000)
"""From the return of a graph's launch to its first kernel: 1 to 7 µs in nine traces of five engines on A and B; without
the profiler it can start before that, as bert's does within 3 µs of its copy. Off by two: 5 µs of a request, once."""
IN_GRAPH = {"det": 330.0, "det on B": 0.0, "resnet50": 10.0, "bert": 5.0, "cls": 10.0, "resnet18": 310.0}
"""The gap before a kernel of a CUDA graph, ns, beside what overlaps in the eager run, too: untraced compute of the
graph, by events, less the eager kernels' durations and overlaps in the trace, by the kernel (det, resnet50 and bert on
A, cls on B), or the gaps of its traced nodes less what tracing adds to each (0.10 µs of det on B, 0.41 of PyTorch's
resnet18 on A). There are two kinds, of the same engine, too: 0.1 and 0.4 µs traced; which of them it will be the eager
run does not tell."""
IN_GRAPH_BESIDE = 30.0
"""How far a graph of either kind lies from others of it, ns: node tracing adds 40 to 130."""
IN_GRAPH_NS = Range.over(IN_GRAPH.values(), IN_GRAPH_BESIDE)
"""The same of any engine. Left out, the likely value is wrong by 0.25 (det), 0.12, 0.13, 0.12 and 0.24 µs. Off by two:
1 % of a request of 100 kernels."""
NODE_NS = Range(0, 100, 150)
"""What tracing a graph's nodes one by one adds to each on the GPU: 0.04 to 0.13 µs in four engines on A and B. Off by
two: 1 % of a graph's request."""
SPIN_NS = Range(3_000, 6_000, 10_000)
"""From the end of the GPU's work to the return of a wait that polls: 3 to 8 µs in nine traces on A, B and others. Off
by two: 6 µs of a request."""
SLEEP_NS = Range(45_000, 90_000, 140_000)
"""The same of a wait that sleeps, after SLEPT_NS of it: 52 (cls, B), 99, 100 and 118 µs (det, bert, resnet50, A), more
on a loaded machine (286). Only where a trace has no waits of its own. Left out, wrong by 10 to 50 µs; off by two, by
90."""
SLEPT_NS = 500_000.0
DEEPER_NS = Range(15_000, 32_000, 60_000)
"""A core that slept ten times as long wakes so much later: 39 µs (34 after 18 µs, 99 after 872), 29 (45 after 6, 100
after 499) in A's traces, 16, 32 and 35 between its untraced runs, 45 on another machine. Left out, an engine's is 17 µs
off at most. Off by two: 30 µs of a request that waits ten times as long as traced."""
SHORTEST_NS = 5_000.0
"""Shorter waits are taken for this: the host had hardly gone to sleep. Off by two: 10 µs of a request."""
POLLS_NS = 15_000.0
"""A wait that returns sooner than so after the GPU was done polls: 3 to 9 µs where it does, 34 and more where it
sleeps, in 20 traces on A, B and others. Off by two nothing changes."""
EVENTS_SLEEP, STREAMS_SLEEP = 0.8, 0.2
"""How likely a wait sleeps whose kind the trace does not show, for an event and for a stream. Runners and trtexec make
events that sleep; CUDA's default polls where there are more cores than contexts. A judgement, not a measurement: where
it is wrong the likely value is off by a waking, and the interval holds both."""
PINNED_SHARE = Range(0.6, 0.83, 0.9)
"""Of its link's peak, what a pinned copy of a megabyte or more gets: 53 to 55 of 63 GB/s on A, B and C; less where the
slot is narrower than the GPU, which a trace does not tell. Off by two: as much again as the pinned copy takes."""
COPY_NS = 1_500.0
"""What a copy takes beside its bytes: 1 to 2 µs on A and B."""
ASYNC_NS = Range(2_000, 5_000, 9_000)
"""An asynchronous copy's call: 3 to 9 µs traced on A and B. Off by two: 5 µs of a request."""
BEFORE_LAUNCH_NS = 4_000.0
"""What the host does at most between the call before and the launch of a graph: 1 to 8 µs traced on A and B, from
Python. Off by two: 4 µs of a request whose GPU waits for its host."""
LONG_PAUSE_NS = 250_000.0
"""What the host does for longer between two launches is its own work, which a graph does not take away: pauses were 2
to 50 µs with TensorRT and up to 194 µs in 13,000 launches of eager PyTorch, on A and B. Off by two nothing changes
there."""
HOLE_NS = 10_000.0
"""A kernel that starts later than its launch and the work before it explain, by more than this, waits for something
else (another engine, another process, a driver that batches), which a graph does not take away: 1 to 3 µs are usual.
Off by two: as much a request, where there is such a hole."""
HOLES = 0.1
"""From such holes of this share of a request on nobody knows what runs beside it where requests overlap: none in 40
traces on A, B and C of a GPU of their own, 0.58 and 0.68 beside another process. Off by two nothing changes there."""
ORDERING_NS = 6_000.0
"""Ordering three streams takes six calls more a request (records, waits of streams): 0.5 to 2 µs each traced on A. Off
by two: 6 µs of a period that the host limits."""
HOST_DRIFT = Range(0.85, 1.0, 1.1)
"""How many times as long the host's calls take in one run as in another of the same engine, machine and hour: untraced
enqueues of det took 836, 852 and 897 µs on A; a mixed classifier's second run was 16 % faster on B; cls took 433, 496,
491, 580 and 593 in five captures, one after the other, on a quiet machine. It binds only where the host is the limit
after the change, too. Off by two: a tenth of such a request."""
AWAKE_DRIFT = Range(0.75, 1.0, 1.12)
"""The same where the core no longer sleeps: det's untraced enqueue took 636 µs for 852. One engine, on A."""
ENQUEUE_DRIFT = 0.06
"""How far an untraced run's enqueue, as a share, lies from the one that the trace would have had: by those of det. Off
by two: 3 % of a host-bound request."""
SPARE = Range(0.0, 0.03, 0.1)
"""What passes for each request beside its usual time and the usual pause after it, as a share, where waits sleep: 0.8
to 8 % in six untraced runs of three engines on A (a late wake now and then), 10 of cls on B, 0.1 where they poll.
Requests under way hide it. Off by two: 3 % of a period."""
REPEATS = 0.015
"""How far the same run's next wall lies from this one's, as a share: at most 2 % in 18 repeats of nine runs on A. Off
by two, an untraced wall's interval is too narrow, and nothing else."""
TWICE = 0.02
"""The same of the difference of two runs, each with its own; a replay that an untraced run fits is 1.3 % off on
average. Off by two, one in four intervals with an untraced run does not hold."""
CAPTURES = 0.035
"""How far apart two untraced runs of the same are, each in a process of its own: at most 2 % in 18 repeats of nine runs
on A, and up to 3.3 % (latency 2.6 %) among five captures of det made one after the other on D, a machine of two H200s,
whose interval within the run was a quarter of that; 2.7 and 2.3 % between two of det and of cls on another one. Off by
two, two captures of the same are told apart."""
MODEL = 0.05
"""How far a replay lies from the run without the profiler, beside what is assumed: runs drift by so much between the
traced and the untraced one (on B a detector's was 4 % slower without the profiler than with it). Off by two, one in
three walls of graphs is outside of its interval."""
NOTHING = 0.01
"""A change of less of a request than its repeats differ by is none."""

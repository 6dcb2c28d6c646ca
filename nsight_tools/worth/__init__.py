"""What would it save: what tracing cost, the run without the profiler, and the price of a change.

`price(trace, [("use_cuda_graph", True)])` is what a request would gain, `untraced_wall(trace)` what it takes without
the profiler; each with an interval that is meant to hold nine times in ten, and the method by which it is known.
"""

from nsight_tools.worth.compose import Plan, Stage, compose, plan
from nsight_tools.worth.price import Pricing, Worth, price, untraced_wall
from nsight_tools.worth.untraced import Untraced, Wall

__all__ = ["Plan", "Pricing", "Stage", "Untraced", "Wall", "Worth", "compose", "plan", "price", "untraced_wall"]

"""Why a table of a dataset has no rows: was it not collected, or looked for and found empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.importer import dialects
from nsight_tools.importer.dialects import NotCollected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsight_tools.importer.exports.reading import Export
    from nsight_tools.importer.session import Session


@dataclass(frozen=True)
class Held:
    """What an export held, by table of the dataset; `lost_…` are calls that should have made rows where none is."""

    export: Export
    session: Session
    rows: Mapping[str, int]
    lost_kernels: int
    lost_records: int

    def not_collected(self, name: str) -> NotCollected | None:
        """Why a table without rows was not collected; None where it was looked for, and there was nothing."""
        usual = dialects.NOT_COLLECTED[name]
        if name in dialects.CUDA_TABLES or name == "launches":
            return self._cuda_not_collected(name, usual.remedy)
        if name in ("layers", "inferences", "enqueues", "environment", "telemetry", "benchmark", "layer_times"):
            return usual
        if name == "diagnostics" and self.session.schema >= dialects.DIAGNOSTICS_SINCE:
            return None
        looked_for = {"nvtx_ranges": "nvtx_trace", "memory_usage": "memory_usage"}.get(name)
        if looked_for and self.session.capture[looked_for] == "true":
            return None
        tables = {source.table for source in dialects.STREAMED.get(name, ())}
        return None if tables & self.export.tables.keys() else usual

    def _cuda_not_collected(self, name: str, remedy: str) -> NotCollected | None:
        """An export lacks tables that had no rows: what the other CUDA tables hold tells whether one was looked for."""
        rows = self.rows
        work = rows["kernels"] + rows["memory_ops"] + rows["graph_launches"]
        if not dialects.has_cuda_activity(self.export.tables):
            return NotCollected("no CUDA activity was traced", remedy)
        if name == "kernels" and rows["graph_launches"]:
            graphs = f"the report traced {rows['graph_launches']} whole CUDA graphs, not their kernels"
            return NotCollected(graphs, "capture with --cuda-graph-trace=node")
        if name in ("api_calls", "event_records") and work and not rows["api_calls"]:
            return NotCollected(f"the report holds {work} pieces of GPU work but no CUDA call", remedy)
        if name == "event_records" and self.lost_records:
            why = "Nsight Systems before 2023 does not, and none does in the capture of a CUDA graph"
            lost = f"{self.lost_records} calls recorded an event, and the report does not say on which stream"
            return NotCollected(f"{lost}: {why}")
        if self.lost_kernels and (not work or name == "kernels") and name not in ("api_calls", *dialects.BY_CALLS):
            lost = f"{self.lost_kernels} launches were traced but no kernel"
            return NotCollected(
                f"{lost}: the profiler received no GPU activity", "see its diagnostics, and capture again"
            )
        return None

"""Numbers of the hardware: what PCI Express links carry, and what NVML's reasons for a low clock mean."""

from __future__ import annotations

LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
"""What one lane carries in one direction, by PCIe generation: GT/s x 128/130 / 8 (8/10 up to generation 2)."""
NEWEST_LINK = {6: 3, 7: 3, 8: 4, 9: 5, 10: 5, 12: 5}
"""PCIe generation that GPUs support at most, by the major number of their compute capability."""

REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x200: "board limit",
    0x400: "reliability",
}
"""Bits of NVML's clock-event reasons (nvml.h, nvmlClocksEventReason…) by which the GPU holds its clocks back itself."""
SETTINGS = {0x2: "application clocks", 0x10: "sync boost", 0x100: "display clocks"}
"""Bits that say that somebody set a limit."""

"""perfetto: protobuf, for ui.perfetto.dev and trace_processor."""

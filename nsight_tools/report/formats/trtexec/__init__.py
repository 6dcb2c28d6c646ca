"""trtexec: its --exportTimes, --exportProfile and --exportLayerInfo, into a folder."""

"""The driver's library, as far as CUDA events go."""

NOT_READY = 600


class Cuda:
    """The driver's library, as far as events go: a stream's work ends when the test says so."""

    def __init__(self) -> None:
        self.now_ms, self.busy, self.fails = 0.0, False, 0
        self.events: list[float] = []

    def cuCtxGetCurrent(self, context) -> int:
        context._obj.value = 11
        return 0

    def cuCtxPushCurrent_v2(self, context) -> int:
        return 0 if context.value == 11 else 201

    def cuEventCreate(self, event, _flags) -> int:
        self.events.append(0.0)
        event._obj.value = len(self.events)
        return self.fails

    def cuEventRecord(self, event, stream) -> int:
        assert stream.value == 7
        self.events[event.value - 1] = self.now_ms
        return 0

    def cuStreamQuery(self, _stream) -> int:
        return NOT_READY if self.busy else 0

    def cuEventSynchronize(self, _event) -> int:
        return 0

    def cuEventElapsedTime(self, took, first, second) -> int:
        took._obj.value = self.events[second.value - 1] - self.events[first.value - 1]
        return 0

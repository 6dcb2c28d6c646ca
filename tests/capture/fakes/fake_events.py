"""The driver's library, as far as CUDA events go: a stream's work ends when the test says so."""

from functools import partial

NOT_READY = 600


class Cuda:
    """Its functions, which ctypes gives attributes. `now_ms` is the stream's time; `fails` what cuEventCreate says."""

    def __init__(self) -> None:
        self.now_ms, self.busy, self.fails = 0.0, False, 0
        self.events: list[float] = []
        for name in dir(type(self)):
            if name.startswith("cu"):
                setattr(self, name, partial(getattr(self, name)))

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
        assert stream == 7
        self.events[event - 1] = self.now_ms
        return 0

    def cuStreamQuery(self, stream) -> int:
        assert stream == 7
        return NOT_READY if self.busy else 0

    def cuEventSynchronize(self, event) -> int:
        assert event
        return 0

    def cuEventElapsedTime(self, took, first, second) -> int:
        took._obj.value = self.events[second - 1] - self.events[first - 1]
        return 0

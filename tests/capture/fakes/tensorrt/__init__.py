"""TensorRT, as far as the runner runs engines with it. An engine is JSON, as `runner_cases.engine` writes it.

$FAKE_TENSORRT_VERSION is the version that it plays: 11 has lost what TensorRT 11 has lost. What runs nothing is real in
test_real_tensorrt.py; of the builder there is here what it takes to run what was built, and the timing cache.
"""

import enum
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import fake_gpu as gpu
import numpy as np

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "8.6.0")
VERSION = tuple(int(part) for part in __version__.split(".")[:2])
MAJOR = VERSION[0]
DLA_CORES = int(os.environ.get("FAKE_TENSORRT_DLA_CORES", "0"))


class DataType(enum.IntEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64, INT4, FP4 = range(11)


NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64, "INT8": np.int8}


class TensorFormat(enum.IntEnum):
    LINEAR, CHW2, HWC8, CHW4, CHW16, CHW32 = range(6)


if VERSION >= (10, 0):

    class ExecutionContextAllocationStrategy(enum.IntEnum):
        STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


if MAJOR >= 11:

    class EngineStat(enum.IntEnum):
        TOTAL_WEIGHTS_SIZE, STRIPPED_WEIGHTS_SIZE = range(2)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY, NONE, DETAILED = range(3)


class LayerInformationFormat(enum.Enum):
    ONELINE, JSON = range(2)


class BuilderFlag(enum.IntEnum):
    if MAJOR < 11:
        FP16, INT8 = 0, 1
    if VERSION >= (8, 6):
        VERSION_COMPATIBLE = 13
    if MAJOR >= 9:
        ERROR_ON_TIMING_CACHE_MISS = 16
    if 9 <= MAJOR < 11:
        BF16 = 17
    if MAJOR >= 10:
        WEIGHT_STREAMING = 21


class NetworkDefinitionCreationFlag(enum.IntEnum):
    if MAJOR < 10:
        EXPLICIT_BATCH = 0


class ILogger:
    def log(self, severity, message):
        raise NotImplementedError


def init_libnvinfer_plugins(logger, namespace):
    return True


class IPluginRegistry:
    def load_library(self, path):
        gpu.note("load_library", path)
        return None if "bad" in path else 1


class IProfiler:
    def __init__(self):
        self.ready = True


class Runtime:
    engine_host_code_allowed = False
    DLA_core = -1
    num_DLA_cores = DLA_CORES

    def __init__(self, logger):
        self.logger = logger

    def get_plugin_registry(self):
        return IPluginRegistry()

    def deserialize_cuda_engine(self, plan):
        gpu.note("deserialize", [self.engine_host_code_allowed, self.DLA_core])
        try:
            spec = json.loads(plan)
        except ValueError:
            self.logger.log(1, "1: [stdArchiveReader.cpp::StdArchiveReader::32] Error Code 1: Serialization (magicTag)")
            return None
        if spec["version"] != __version__:
            self.logger.log(
                1,
                f"6: The engine plan file is not compatible with this version of TensorRT, expecting "
                f"library version {__version__} got {spec['version']}, please rebuild.",
            )
            self.logger.log(3, "unrelated")
            return None
        if spec["capability"] != [9, 0]:
            self.logger.log(
                1,
                "6: The engine plan file is generated on an incompatible device, expecting compute 9.0 got "
                f"compute {spec['capability'][0]}.{spec['capability'][1]}, please rebuild.",
            )
            return None
        gpu.take(spec.get("loaded_bytes", 0))
        return ICudaEngine(spec, self.logger)


class ICudaEngine:
    num_layers, num_aux_streams, profiling_verbosity = 3, 0, ProfilingVerbosity.DETAILED
    num_io_tensors = property(lambda self: len(self._tensors))
    num_optimization_profiles = property(lambda self: max(len(self._spec["profiles"]), 1))

    def __init__(self, spec, logger):
        self._spec, self._logger, self._contexts = spec, logger, 0
        self._tensors = {tensor["name"]: tensor for tensor in spec["tensors"]}

    if MAJOR < 11:
        device_memory_size = 4096
    else:
        device_memory_size_v2 = 4096
    if VERSION >= (10, 1):
        weight_streaming_budget_v2 = None
        streamable_weights_size = property(lambda self: self._spec.get("streamable", 0))

        def get_weight_streaming_automatic_budget(self):
            return 77

        def get_device_memory_size_for_profile_v2(self, profile):
            return 1000 + profile

    if MAJOR >= 11:

        def get_engine_stat(self, stat):
            return self._spec.get("weights_bytes", -1) if stat is EngineStat.TOTAL_WEIGHTS_SIZE else 0

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if self._tensors[name]["input"] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(self._tensors[name]["shape"])

    def get_tensor_dtype(self, name):
        return DataType[self._tensors[name]["dtype"]]

    def get_tensor_location(self, name):
        return TensorLocation.HOST if self._tensors[name].get("host") else TensorLocation.DEVICE

    def get_tensor_vectorized_dim(self, name):
        return self._tensors[name].get("vector", [-1, 1])[0]

    def get_tensor_format(self, name):
        return TensorFormat[self._tensors[name].get("format", "LINEAR")]

    def get_tensor_components_per_element(self, name):
        return self._tensors[name].get("vector", [-1, 1])[1]

    def get_tensor_profile_shape(self, name, profile):
        return self._spec["profiles"][profile][name]

    def create_execution_context(self, strategy=0):
        gpu.note("create_context", int(strategy))
        self._contexts += 1
        if self._contexts > self._spec.get("contexts", 99):
            self._logger.log(1, "2: [executionContext.cpp] Error Code 2: OutOfMemory (no further information)")
            return None
        return IExecutionContext(self)

    def create_engine_inspector(self):
        return EngineInspector(self)


class EngineInspector:
    """Layers once for each profile; a context is told those of its own profile only, and nothing at all of others."""

    execution_context = None

    def __init__(self, engine):
        self._spec, self._profiles = engine._spec, range(engine.num_optimization_profiles)

    def get_engine_information(self, form):
        assert form is LayerInformationFormat.JSON
        context = self.execution_context
        assert context is None or context._shapes
        if context is not None and len(self._profiles) > 1:
            return ""
        return json.dumps({"Layers": [layer for _, layer in self._layers()], "Bindings": []})

    def get_layer_information(self, number, form):
        assert form is LayerInformationFormat.JSON
        profile, layer = self._layers()[number]
        if profile != self.execution_context.active_optimization_profile:
            return ""
        shapes = list(self.execution_context._shapes.values())
        return json.dumps(layer if isinstance(layer, str) else {**layer, "Inputs": shapes})

    def _layers(self):
        layers = self._spec.get("layers", [{"Name": "conv"}])
        return [(profile, self._named(layer, profile)) for profile in self._profiles for layer in layers]

    def _named(self, layer, profile):
        more = f" [profile {profile}]" if profile else ""
        if isinstance(layer, str):
            return layer + more
        return layer | {"Name": layer["Name"] + more} if "Name" in layer else layer


class IExecutionContext:
    """Takes GPU memory as `context_bytes` of the spec says, whatever the engine says that it needs."""

    nvtx_verbosity, profiler, active_optimization_profile = ProfilingVerbosity.DETAILED, None, 0

    def __init__(self, engine):
        self.engine, self._spec = engine, engine._spec
        self._held = self._spec.get("context_bytes", 0)
        gpu.take(self._held)
        self._shapes = {name: tensor["shape"] for name, tensor in engine._tensors.items() if tensor["input"]}
        self._addresses, self._enqueues, self._computed = {}, 0, set()

    def __del__(self):
        gpu.give(self._held)

    if VERSION >= (10, 1):

        def update_device_memory_size_for_shapes(self):
            assert not self.infer_shapes()
            return 500

        def set_device_memory(self, memory, size):
            gpu.note("set_device_memory", size)

    def set_optimization_profile_async(self, profile, stream):
        self.active_optimization_profile = profile
        return True

    def set_input_shape(self, name, shape):
        self._shapes[name] = list(shape)
        return True

    def set_tensor_address(self, name, address):
        assert address > 0
        self._addresses[name] = address
        gpu.note("set_address", name)
        return True

    def infer_shapes(self):
        return [name for name, shape in self._shapes.items() if -1 in shape]

    def get_tensor_shape(self, name):
        batch = next(iter(self._shapes.values()))[0]
        shape = self.engine._tensors[name]["shape"]
        return tuple(shape) if self._spec.get("data_dependent") else (batch if shape[0] < 0 else shape[0], *shape[1:])

    def execute_async_v3(self, stream):
        gpu.note("enqueue", [stream, id(self) % 10**9, self.nvtx_verbosity.name])
        assert set(self._addresses) == set(self.engine._tensors), "an address is missing"
        self._enqueues += 1
        queue = gpu.QUEUES[stream]
        if queue.capturing is not None and self._spec.get("no_capture"):
            self.engine._logger.log(
                1, "1: [loop.cpp] Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)"
            )
            return False
        if self._enqueues == self._spec.get("begun_at"):
            gpu.begun()
        if self._enqueues == self._spec.get("fail_at"):
            self.engine._logger.log(2, "a warning")
            self.engine._logger.log(
                1, "3: [executionContext.cpp::enqueueInternal::795] Error Code 3: API Usage Error (told to)"
            )
            return False
        queue.work(self._spec["compute_us"] * 1000)
        addresses = tuple(self._addresses.values())
        if addresses not in self._computed:
            self._computed.add(addresses)
            self._compute()
        if self.profiler is not None:
            self._report(queue)
        return True

    def _compute(self):
        """Puts outputs where they belong: they depend on the inputs' bytes, and the spec's `error` and `nan`."""
        tensors = self.engine._tensors.items()
        given = [gpu.CONTENTS.get(self._addresses[name]) for name, tensor in tensors if tensor["input"]]
        seed = sum(int(content.sum(dtype=np.int64)) for content in given if content is not None)
        for name, tensor in tensors:
            dtype = NUMPY.get(tensor["dtype"])
            if tensor["input"] or dtype is None or tensor.get("host"):
                continue
            values = np.random.default_rng([seed, *name.encode()]).normal(size=self.get_tensor_shape(name))
            values += self._spec.get("error", 0) * np.random.default_rng(1).normal(size=values.shape)
            values.reshape(-1)[: self._spec.get("nan", 0)] = np.nan
            whole = np.dtype(dtype).kind != "f"
            content = (np.rint(10 * values) if whole else values).astype(dtype)
            gpu.CONTENTS[self._addresses[name]] = np.ascontiguousarray(content).reshape(-1).view(np.uint8)

    def _report(self, queue):
        """With a profiler an enqueue waits for its work, and says what each layer took: `profile` of the spec, in µs.

        The first enqueue is ten times slower; `profile_grows` adds a layer to each.
        """
        assert self.profiler.ready, "its own initializer was not called"
        gpu.sleep_until(queue.until)
        layers = self._spec.get("profile", [["conv", self._spec["compute_us"]]])
        slower = 10 if self._enqueues == 1 else 1
        for name, us in layers + [["more", 1]] * (self._enqueues if self._spec.get("profile_grows") else 0):
            self.profiler.report_layer_time(name, us * slower / 1000)


class Builder:
    num_DLA_cores = DLA_CORES

    def __init__(self, logger):
        self.logger = logger

    def create_builder_config(self):
        return IBuilderConfig(self.logger)

    def create_network(self, flags=0):
        assert flags == (MAJOR < 10)
        return INetworkDefinition()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        gpu.begun()
        time.sleep(network.spec.get("build_s", 0))
        missing = [] if config.cache is None or "conv" in config.cache.entries else ["conv"]
        if missing and 16 in config.flags:
            self.logger.log(1, "10: [autotuner.cpp] Error Code 10: Internal Error (Assertion !errorOnMiss failed.)")
            return None
        if config.cache is not None:
            config.cache.entries += missing
        self.logger.log(3, "Engine generation completed in 0.001 seconds.")
        built = {"version": __version__, "capability": [9, 0], "compute_us": 100, "profiles": config.profiles}
        return json.dumps(built | network.spec).encode()


class IBuilderConfig:
    builder_optimization_level = 3

    def __init__(self, logger):
        self.logger, self.flags, self.profiles, self.cache = logger, [], [], None

    def set_flag(self, flag):
        self.flags.append(flag)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, content):
        return ITimingCache(self.logger, json.loads(content) if content else [])

    def set_timing_cache(self, cache, ignore_mismatch):
        if "other GPU" in cache.entries:
            return False
        self.cache = cache
        return True


class ITimingCache:
    def __init__(self, logger, entries):
        self.logger, self.entries = logger, entries

    def serialize(self):
        self.logger.log(3, f"Serialized {len(self.entries)} timing cache entries")
        return json.dumps(self.entries).encode()


class IOptimizationProfile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, *ends):
        self.shapes[name] = ends


class INetworkDefinition:
    """Of tensors and layers, as a model's JSON has them."""

    def _load(self, spec):
        self.spec, self.layers = spec, [SimpleNamespace(type=SimpleNamespace(name=kind)) for kind in spec["kinds"]]
        self.inputs = [ITensor(tensor) for tensor in spec["tensors"] if tensor["input"]]
        self.num_inputs, self.num_layers = len(self.inputs), len(self.layers)

    def get_input(self, index):
        return self.inputs[index]

    def get_layer(self, index):
        return self.layers[index]


class ITensor:
    is_shape_tensor = False

    def __init__(self, spec):
        self.name, self.shape = spec["name"], tuple(spec["shape"])


class OnnxParser:
    def __init__(self, network, logger):
        self.network = network

    def parse_from_file(self, path):
        self.network._load(json.loads(Path(path).read_text("utf-8")))
        return True

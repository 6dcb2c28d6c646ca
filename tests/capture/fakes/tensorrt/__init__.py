"""TensorRT, as far as the runner uses it. An engine is JSON, as `runner_cases.engine` writes it; so is a model.

$FAKE_TENSORRT_VERSION is the version that it plays: 11 has lost what TensorRT 11 has lost.
"""

import enum
import json
import os
import time
from pathlib import Path

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


class TacticSource(enum.IntEnum):
    if MAJOR < 11:
        CUBLAS, CUBLAS_LT, CUDNN = range(3)
    EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS = 3, 4


class DeviceType(enum.IntEnum):
    GPU, DLA = range(2)


if VERSION >= (10, 8):

    class TilingOptimizationLevel(enum.IntEnum):
        NONE, FAST, MODERATE, FULL = range(4)


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


class MemoryPoolType(enum.IntEnum):
    WORKSPACE, DLA_MANAGED_SRAM, DLA_LOCAL_DRAM, DLA_GLOBAL_DRAM, TACTIC_DRAM = range(5)
    if MAJOR >= 10:
        TACTIC_SHARED_MEMORY = 5


class LayerType(enum.Enum):
    CONVOLUTION, QUANTIZE, DEQUANTIZE = range(3)


class BuilderFlag(enum.IntEnum):
    GPU_FALLBACK, SPARSE_WEIGHTS, DIRECT_IO = 3, 8, 11
    if MAJOR < 11:
        FP16, INT8, OBEY_PRECISION_CONSTRAINTS, PREFER_PRECISION_CONSTRAINTS = 0, 1, 9, 10
        if VERSION >= (8, 6):
            FP8 = 15
        if MAJOR >= 9:
            BF16 = 17
    if VERSION >= (8, 6):
        VERSION_COMPATIBLE = 13
    if MAJOR >= 9:
        ERROR_ON_TIMING_CACHE_MISS = 16
    if MAJOR >= 10:
        WEIGHT_STREAMING = 21


class NetworkDefinitionCreationFlag(enum.IntEnum):
    if MAJOR < 10:
        EXPLICIT_BATCH = 0
    if MAJOR >= 9:
        STRONGLY_TYPED = 1


class ILogger:
    def log(self, severity, message):
        raise NotImplementedError


standard_plugins = []


def init_libnvinfer_plugins(logger, namespace):
    standard_plugins.append("GroupNormalizationPlugin")
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
    def __init__(self, spec, logger):
        self.spec, self.logger = spec, logger
        self.tensors = {tensor["name"]: tensor for tensor in spec["tensors"]}
        self.num_io_tensors = len(self.tensors)
        self.num_optimization_profiles = max(len(spec["profiles"]), 1)
        self.num_layers = 3
        self.num_aux_streams = 0
        self.contexts = 0
        self.profiling_verbosity = ProfilingVerbosity.DETAILED
        setattr(self, "device_memory_size" if MAJOR < 11 else "device_memory_size_v2", 4096)
        if VERSION >= (10, 1):
            self.streamable_weights_size = spec.get("streamable", 0)

    if VERSION >= (10, 1):
        weight_streaming_budget_v2 = None

        def get_weight_streaming_automatic_budget(self):
            return 77

        def get_device_memory_size_for_profile_v2(self, profile):
            return 1000 + profile

    if MAJOR >= 11:

        def get_engine_stat(self, stat):
            return self.spec.get("weights_bytes", -1) if stat is EngineStat.TOTAL_WEIGHTS_SIZE else 0

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if self.tensors[name]["input"] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(self.tensors[name]["shape"])

    def get_tensor_dtype(self, name):
        return DataType[self.tensors[name]["dtype"]]

    def get_tensor_location(self, name):
        return TensorLocation.HOST if self.tensors[name].get("host") else TensorLocation.DEVICE

    def get_tensor_vectorized_dim(self, name):
        return self.tensors[name].get("vector", [-1, 1])[0]

    def get_tensor_format(self, name):
        return TensorFormat[self.tensors[name].get("format", "LINEAR")]

    def get_tensor_components_per_element(self, name):
        return self.tensors[name].get("vector", [-1, 1])[1]

    def get_tensor_profile_shape(self, name, profile):
        return self.spec["profiles"][profile][name]

    def create_execution_context(self, strategy=0):
        gpu.note("create_context", int(strategy))
        self.contexts += 1
        if self.contexts > self.spec.get("contexts", 99):
            self.logger.log(1, "2: [executionContext.cpp] Error Code 2: OutOfMemory (no further information)")
            return None
        return IExecutionContext(self)

    def create_engine_inspector(self):
        return EngineInspector(self)


class EngineInspector:
    """Layers once for each profile; a context is told those of its own profile only, and nothing at all of others."""

    execution_context = None

    def __init__(self, engine):
        self.spec, self.profiles = engine.spec, range(engine.num_optimization_profiles)

    def get_engine_information(self, form):
        assert form is LayerInformationFormat.JSON
        context = self.execution_context
        assert context is None or context.shapes
        if context is not None and len(self.profiles) > 1:
            return ""
        return json.dumps({"Layers": [layer for _, layer in self._layers()], "Bindings": []})

    def get_layer_information(self, number, form):
        assert form is LayerInformationFormat.JSON
        profile, layer = self._layers()[number]
        if profile != self.execution_context.profile:
            return ""
        shapes = list(self.execution_context.shapes.values())
        return json.dumps(layer if isinstance(layer, str) else {**layer, "Inputs": shapes})

    def _layers(self):
        layers = self.spec.get("layers", [{"Name": "conv"}])
        return [(profile, self._named(layer, profile)) for profile in self.profiles for layer in layers]

    def _named(self, layer, profile):
        more = f" [profile {profile}]" if profile else ""
        if isinstance(layer, str):
            return layer + more
        return layer | {"Name": layer["Name"] + more} if "Name" in layer else layer


class IExecutionContext:
    """Takes GPU memory as `context_bytes` of the spec says, whatever the engine says that it needs."""

    def __init__(self, engine):
        self.held = engine.spec.get("context_bytes", 0)
        gpu.take(self.held)
        self.engine, self.spec = engine, engine.spec
        self.shapes = {name: tensor["shape"] for name, tensor in engine.tensors.items() if tensor["input"]}
        self.addresses, self.profile, self.enqueues, self.computed = {}, 0, 0, set()
        self.nvtx_verbosity = ProfilingVerbosity.DETAILED
        self.profiler = None

    def __del__(self):
        gpu.give(self.held)

    if VERSION >= (10, 1):

        def update_device_memory_size_for_shapes(self):
            assert not self.infer_shapes()
            return 500

        def set_device_memory(self, memory, size):
            gpu.note("set_device_memory", size)

    @property
    def active_optimization_profile(self):
        return self.profile

    def set_optimization_profile_async(self, profile, stream):
        self.profile = profile
        return True

    def set_input_shape(self, name, shape):
        self.shapes[name] = list(shape)
        return True

    def set_tensor_address(self, name, address):
        assert address > 0
        self.addresses[name] = address
        gpu.note("set_address", name)
        return True

    def infer_shapes(self):
        return [name for name, shape in self.shapes.items() if -1 in shape]

    def get_tensor_shape(self, name):
        batch = next(iter(self.shapes.values()))[0]
        shape = self.engine.tensors[name]["shape"]
        return tuple(shape) if self.spec.get("data_dependent") else (batch if shape[0] < 0 else shape[0], *shape[1:])

    def execute_async_v3(self, stream):
        gpu.note("enqueue", [stream, id(self) % 10**9, self.nvtx_verbosity.name])
        assert set(self.addresses) == set(self.engine.tensors), "an address is missing"
        self.enqueues += 1
        queue = gpu.QUEUES[stream]
        if queue.capturing is not None and self.spec.get("no_capture"):
            self.engine.logger.log(
                1, "1: [loop.cpp] Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)"
            )
            return False
        if self.enqueues == self.spec.get("fail_at"):
            self.engine.logger.log(2, "a warning")
            self.engine.logger.log(
                1, "3: [executionContext.cpp::enqueueInternal::795] Error Code 3: API Usage Error (told to)"
            )
            return False
        queue.work(self.spec["compute_us"] * 1000)
        addresses = tuple(self.addresses.values())
        if addresses not in self.computed:
            self.computed.add(addresses)
            self._compute()
        if self.profiler is not None:
            self._report(queue)
        return True

    def _compute(self):
        """Puts outputs where they belong: they depend on the inputs' bytes, and the spec's `error` and `nan`."""
        tensors = self.engine.tensors.items()
        given = [gpu.CONTENTS.get(self.addresses[name]) for name, tensor in tensors if tensor["input"]]
        seed = sum(int(content.sum(dtype=np.int64)) for content in given if content is not None)
        for name, tensor in tensors:
            dtype = NUMPY.get(tensor["dtype"])
            if tensor["input"] or dtype is None or tensor.get("host"):
                continue
            values = np.random.default_rng([seed, *name.encode()]).normal(size=self.get_tensor_shape(name))
            values += self.spec.get("error", 0) * np.random.default_rng(1).normal(size=values.shape)
            values.reshape(-1)[: self.spec.get("nan", 0)] = np.nan
            whole = np.dtype(dtype).kind != "f"
            content = (np.rint(10 * values) if whole else values).astype(dtype)
            gpu.CONTENTS[self.addresses[name]] = np.ascontiguousarray(content).reshape(-1).view(np.uint8)

    def _report(self, queue):
        """With a profiler an enqueue waits for its work, and says what each layer took: `profile` of the spec, in µs.

        The first enqueue is ten times slower; `profile_grows` adds a layer to each.
        """
        assert self.profiler.ready, "its own initializer was not called"
        gpu.sleep_until(queue.until)
        layers = self.spec.get("profile", [["conv", self.spec["compute_us"]]])
        slower = 10 if self.enqueues == 1 else 1
        for name, us in layers + [["more", 1]] * (self.enqueues if self.spec.get("profile_grows") else 0):
            self.profiler.report_layer_time(name, us * slower / 1000)


class Builder:
    def __init__(self, logger):
        if os.environ.get("FAKE_TENSORRT_NO_BUILDER"):
            logger.log(1, "Unable to load library: libnvinfer_builder_resource.so.8.6.0")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.logger = logger
        LOGGERS.append(logger)

    num_DLA_cores = DLA_CORES

    def get_plugin_registry(self):
        return IPluginRegistry()

    def create_builder_config(self):
        return IBuilderConfig()

    def create_network(self, flags=0):
        assert flags & 1 == (MAJOR < 10)
        return INetworkDefinition(flags)

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        time.sleep(network.spec.get("build_s", 0))
        if network.spec.get("build_error"):
            self.logger.log(1, "10: Could not find any implementation for node conv.")
            return None
        missing = (
            []
            if config.cache is None
            else [n for n in network.spec.get("tactics", ["conv"]) if n not in config.cache.entries]
        )
        if missing and 16 in config.flags:
            self.logger.log(1, "10: [autotuner.cpp] Error Code 10: Internal Error (Assertion !errorOnMiss failed.)")
            return None
        if config.cache is not None:
            config.cache.entries += missing
        if "calibrate" in network.spec:
            calibrator = config.int8_calibrator
            cached = calibrator.read_calibration_cache()
            while cached is None and (pointers := calibrator.get_batch([t.name for t in network.inputs])) is not None:
                gpu.note("calibrate", len(pointers))
            calibrator.write_calibration_cache(b"ranges")
        if not os.environ.get("FAKE_TENSORRT_SILENT"):
            self.logger.log(3, "Engine generation completed in 0.001 seconds.")
        return json.dumps({
            "version": __version__, "capability": [9, 0], "compute_us": 100, "profiles": config.profiles,
            "tensors": network.spec["tensors"], "flags": sorted(config.flags),
            "level": config.builder_optimization_level, "verbosity": config.profiling_verbosity.name,
            "tactics": config.tactics, "ranges": network.ranges,
            "network_flags": network.flags, "aux_streams": getattr(config, "max_aux_streams", None),
            "tiling": getattr(config, "tiling_optimization_level", None), "pools": config.pools,
            "dla": [config.default_device_type, config.DLA_core], "calibration_profile": config.calibration_profile,
            "io": [[t.name, t.dtype.name, t.allowed_formats] for t in network.inputs + network.outputs],
            "precisions": [[layer.name, layer.precision.name] for layer in network.layers] if MAJOR < 11 else None,
            "layers": network.spec.get("inspected", [{"Name": "conv"}]),
            "streamable": 1000 if 21 in config.flags else 0,
        }).encode()  # fmt: skip


class ITimingCache:
    def __init__(self, entries):
        self.entries = entries

    def serialize(self):
        if not os.environ.get("FAKE_TENSORRT_SILENT"):
            LOGGERS[-1].log(3, f"Serialized {len(self.entries)} timing cache entries")
        return json.dumps(self.entries).encode()


LOGGERS = []
if MAJOR < 11:

    class IInt8EntropyCalibrator2:
        pass


class IBuilderConfig:
    if VERSION >= (8, 6):
        builder_optimization_level, max_aux_streams = 3, None
    if VERSION >= (10, 8):
        tiling_optimization_level = None
    if MAJOR < 11:
        int8_calibrator = None
    default_device_type, DLA_core, calibration_profile = DeviceType.GPU, -1, None

    def __init__(self):
        self.pools = {}
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.flags, self.profiles, self.cache, self.tactics = [], [], None, None

    def set_flag(self, flag):
        self.flags.append(int(flag))

    def get_flag(self, flag):
        return int(flag) in self.flags

    def get_tactic_sources(self):
        return 0b11111 if MAJOR < 11 else 0b11000

    def set_tactic_sources(self, mask):
        self.tactics = mask

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool.name] = size

    def set_calibration_profile(self, profile):
        self.calibration_profile = profile.shapes

    def create_timing_cache(self, content):
        return ITimingCache(json.loads(content) if content else [])

    def set_timing_cache(self, cache, ignore_mismatch):
        if "other GPU" in cache.entries:
            return False
        self.cache = cache
        return True

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1


class IOptimizationProfile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, low, best, high):
        self.shapes[name] = [low, best, high]


class ITensor:
    is_shape_tensor = False
    allowed_formats = 1

    def __init__(self, network, spec):
        self.network, self.name, self.shape = network, spec["name"], tuple(spec["shape"])
        self._dtype = DataType[spec["dtype"]]

    def _set_dtype(self, dtype):
        self._dtype = dtype

    dtype = property(lambda self: self._dtype, _set_dtype if MAJOR < 11 else None)

    if MAJOR < 11:

        def set_dynamic_range(self, low, high):
            self.network.ranges.append([self.name, low, high])


class ILayer:
    num_inputs = num_outputs = 1
    if MAJOR < 11:
        precision = DataType.FLOAT

    def __init__(self, network, name, kind, ends):
        self.network, self.name, self.type, self.ends = network, name, kind, ends

    def get_input(self, index):
        return self.ends[0]

    def get_output(self, index):
        return self.ends[1]


class INetworkDefinition:
    def __init__(self, flags):
        self.flags = flags

    def load(self, spec):
        self.spec, self.ranges = spec, []
        self.inputs = [ITensor(self, tensor) for tensor in spec["tensors"] if tensor["input"]]
        self.outputs = [ITensor(self, tensor) for tensor in spec["tensors"] if not tensor["input"]]
        self.num_inputs, self.num_outputs = len(self.inputs), len(self.outputs)
        indices = ITensor(self, {"name": "indices", "shape": [1], "dtype": "INT64"})
        self.layers = [
            ILayer(
                self,
                layer["name"],
                LayerType[layer.get("type", "CONVOLUTION")],
                (indices, indices) if layer.get("indices") else (self.inputs[0], self.outputs[0]),
            )
            for layer in spec.get("layers", [{"name": "conv"}])
        ]
        self.num_layers = len(self.layers)

    def get_input(self, index):
        return self.inputs[index]

    def get_output(self, index):
        return self.outputs[index]

    def get_layer(self, index):
        return self.layers[index]


class OnnxParser:
    def __init__(self, network, logger):
        self.network = network

    def parse_from_file(self, path):
        spec = json.loads(Path(path).read_text("utf-8"))
        assert spec.get("plugin", "none") in (*standard_plugins, "none"), "no such plugin is registered"
        self.network.load(spec)
        return True

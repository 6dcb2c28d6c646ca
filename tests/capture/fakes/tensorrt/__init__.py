"""TensorRT, as far as the runner uses it. An engine is JSON, as `runner_cases.engine` writes it; so is a model.

$FAKE_TENSORRT_VERSION is the version that it plays: 11 has lost what TensorRT 11 has lost.
"""

import enum
import json
import os
import time
from pathlib import Path

import fake_gpu as gpu

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "8.6.0")
MAJOR = int(__version__.split(".")[0])


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64, INT4, FP4 = range(11)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY, NONE, DETAILED = range(3)


class LayerInformationFormat(enum.Enum):
    ONELINE, JSON = range(2)


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class LayerType(enum.Enum):
    CONVOLUTION, QUANTIZE = range(2)


class BuilderFlag:
    if MAJOR < 11:
        FP16, INT8 = 0, 1


class NetworkDefinitionCreationFlag:
    if MAJOR < 10:
        EXPLICIT_BATCH = 0


class ILogger:
    def log(self, severity, message):
        raise NotImplementedError


def init_libnvinfer_plugins(logger, namespace):
    return True


class Runtime:
    def __init__(self, logger):
        self.logger = logger

    def deserialize_cuda_engine(self, plan):
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

    def get_tensor_components_per_element(self, name):
        return self.tensors[name].get("vector", [-1, 1])[1]

    def get_tensor_profile_shape(self, name, profile):
        return self.spec["profiles"][profile][name]

    def create_execution_context(self):
        self.contexts += 1
        if self.contexts > self.spec.get("contexts", 99):
            self.logger.log(1, "2: [executionContext.cpp] Error Code 2: OutOfMemory (no further information)")
            return None
        return IExecutionContext(self)

    def create_engine_inspector(self):
        return EngineInspector()


class EngineInspector:
    execution_context = None

    def get_engine_information(self, form):
        assert form is LayerInformationFormat.JSON
        assert self.execution_context is not None
        assert self.execution_context.shapes
        return json.dumps({"Layers": [{"Name": "conv"}], "Bindings": []})


class IExecutionContext:
    def __init__(self, engine):
        self.engine, self.spec = engine, engine.spec
        self.shapes = {name: tensor["shape"] for name, tensor in engine.tensors.items() if tensor["input"]}
        self.addresses, self.profile, self.enqueues = {}, 0, 0
        self.nvtx_verbosity = ProfilingVerbosity.DETAILED

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
        return True


class Builder:
    def __init__(self, logger):
        if os.environ.get("FAKE_TENSORRT_NO_BUILDER"):
            logger.log(1, "Unable to load library: libnvinfer_builder_resource.so.8.6.0")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.logger = logger

    def create_builder_config(self):
        return IBuilderConfig()

    def create_network(self, flags=0):
        assert flags == (1 if MAJOR < 10 else 0)
        return INetworkDefinition()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        time.sleep(network.spec.get("build_s", 0))
        if network.spec.get("build_error"):
            self.logger.log(1, "10: Could not find any implementation for node conv.")
            return None
        if config.cache is not None:
            config.cache.entries.append("conv")
        return json.dumps({
            "version": __version__, "capability": [9, 0], "compute_us": 100, "profiles": config.profiles,
            "tensors": network.spec["tensors"], "flags": config.flags, "level": config.builder_optimization_level,
            "verbosity": config.profiling_verbosity.name, "tactics": config.tactics, "ranges": network.ranges,
        }).encode()  # fmt: skip


class ITimingCache:
    def __init__(self, entries):
        self.entries = entries

    def serialize(self):
        return json.dumps(self.entries).encode()


class IBuilderConfig:
    def __init__(self):
        self.builder_optimization_level, self.profiling_verbosity = 3, ProfilingVerbosity.LAYER_NAMES_ONLY
        self.flags, self.profiles, self.cache, self.tactics = [], [], None, None

    def set_flag(self, flag):
        self.flags.append(flag)

    def set_tactic_sources(self, mask):
        self.tactics = mask

    def set_memory_pool_limit(self, pool, size):
        pass

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

    def __init__(self, network, spec):
        self.network, self.name, self.shape = network, spec["name"], tuple(spec["shape"])

    def set_dynamic_range(self, low, high):
        self.network.ranges.append([self.name, low, high])


class INetworkDefinition:
    num_layers = 1

    def load(self, spec):
        self.spec, self.ranges = spec, []
        self.inputs = [ITensor(self, tensor) for tensor in spec["tensors"] if tensor["input"]]
        self.outputs = [ITensor(self, tensor) for tensor in spec["tensors"] if not tensor["input"]]
        self.num_inputs = len(self.inputs)

    def get_input(self, index):
        return self.inputs[index]

    def get_layer(self, index):
        return self

    type = LayerType.CONVOLUTION
    num_outputs = 1

    def get_output(self, index):
        return self.outputs[index]


class ParserError:
    def node(self):
        return 12

    def desc(self):
        return "No importer registered for op: Frobnicate"


class OnnxParser:
    num_errors = 1

    def __init__(self, network, logger):
        self.network, self.logger = network, logger

    def parse_from_file(self, path):
        spec = json.loads(Path(path).read_text("utf-8"))
        if spec.get("parse_error"):
            self.logger.log(1, "ModelImporter.cpp:726: While parsing node number 12 [Frobnicate]:")
            return False
        self.network.load(spec)
        return True

    def get_error(self, index):
        return ParserError()

"""What is known to change nothing that somebody else reads: functions of torch and Python, methods, contexts.

    torch.tanh(x)   labels.ne(-100)   logger.warning_once("...")   CausalLMOutput(loss=loss)

Only what stands here is harmless: a name that is missing costs a match, one too many costs a right number.
"""

from __future__ import annotations

import re

from fusegen.codegen.storage import CONTAINER_METHODS, VIEWS, is_output_class
from fusegen.codegen.values import Call, Const, Global

# Operations that are functions of torch and methods of a tensor, and whose result has storage of its own.
OPERATIONS = frozenset(
    "abs absolute acos add addcdiv addcmul addmm all allclose amax amin aminmax any argmax argmin argsort "  # noqa: SIM905
    "asin atan atan2 baddbmm bernoulli bincount bitwise_and bitwise_not bitwise_or bitwise_xor bmm bucketize cat cdist "
    "ceil clamp clamp_max clamp_min clip clone concat cos cosh count_nonzero cross cummax cummin cumprod cumsum diff "
    "dist div divide dot einsum eq equal erf exp exp2 expm1 flip floor floor_divide fmod gather ge greater "
    "greater_equal gt histc index_add index_copy index_fill index_put index_select isclose isfinite isin isinf isnan "
    "kthvalue le lerp less less_equal log log10 log1p log2 log_softmax logaddexp logical_and logical_not logical_or "
    "logical_xor logsumexp lt masked_fill masked_scatter masked_select matmul max maximum mean median min minimum mm "
    "mul multinomial multiply mv nan_to_num nanmean nansum ne neg negative nonzero norm not_equal outer pow prod "
    "quantile reciprocal relu remainder repeat_interleave roll round rsqrt scatter scatter_add scatter_reduce "
    "searchsorted sigmoid sign sin sinh softmax sort sqrt square std sub subtract sum take take_along_dim tan tanh "
    "tile topk tril triu true_divide trunc unique unique_consecutive var where xlogy".split()
)

_METHODS = frozenset(
    "size dim numel ndimension nelement item tolist stride element_size is_contiguous is_floating_point "  # noqa: SIM905
    "is_complex get_device data_ptr bool byte char short int long cpu cuda new_zeros new_ones new_empty new_full "
    "new_tensor repeat get keys values items copy index count to_tuple get_text_config get_seq_length lower upper "
    "strip startswith endswith join format split replace".split()
)

_FUNCTIONS = frozenset(
    "arange as_tensor asarray block_diag broadcast_tensors cartesian_prod cosine_similarity empty empty_like eye "  # noqa: SIM905
    "finfo from_numpy full full_like get_default_dtype hstack iinfo is_autocast_enabled is_floating_point "
    "is_grad_enabled is_inference_mode_enabled is_tensor linspace meshgrid numel ones ones_like rand rand_like randint "
    "randn randn_like randperm scalar_tensor stack tensor tril_indices triu_indices vstack zeros zeros_like".split()
)

_BUILTINS = frozenset(
    "abs all any bool callable dict divmod enumerate float format frozenset getattr hasattr id int isinstance "  # noqa: SIM905
    "issubclass len list max min pow print range repr reversed round set slice sorted str sum tuple type zip".split()
)

_PATHS = re.compile(
    r"(math|time)\.\w+|warnings\.warn|copy\.(copy|deepcopy)|os\.getenv|os\.environ\.get"
    r"|([\w.]*\.)?activations\.[a-z]\w*"
    r"|\.?(logger|logging)\.(debug|info|warning|warning_once|warning_advice|info_once|error|exception)"
    r"|torch\.(device|Size|[A-Z]\w*Tensor|Tensor|nn\.[A-Z]\w*|linalg\.\w+|fft\.\w+|special\.\w+)"
    r"|torch\.nn\.functional\.[a-z]\w*|torch\.nn\.utils\.rnn\.pad_sequence"
    r"|torch\.cuda\.(is_available|synchronize|empty_cache|memory_allocated|max_memory_allocated|current_device)"
    r"|torch\.(jit\.is_(tracing|scripting)|compiler\.is_\w+|onnx\.is_in_onnx_export)"
    r"|torch\.distributed\.(is_available|is_initialized|get_rank|get_world_size)"
)

# Functions that may change what they get: statistics that run along, rows that are scaled down to a norm.
_CHANGING = frozenset(["batch_norm", "instance_norm", "embedding", "embedding_bag"])

# Where `inplace` stands among the arguments of a function, and of the class of that name.
_FLAG_AT = {
    **dict.fromkeys(("relu", "relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid"), (1, 0)),
    **dict.fromkeys(("celu", "elu", "leakyrelu"), (2, 1)),
    **dict.fromkeys(("hardtanh", "threshold"), (3, 2)),
    "dropout": (3, 1),
    "rrelu": (4, 2),
}

# Contexts that leave everything as it was when they are over.
CONTEXTS = frozenset(
    "torch.no_grad torch.enable_grad torch.inference_mode torch.set_grad_enabled torch.autocast "  # noqa: SIM905
    "torch.amp.autocast torch.cuda.amp.autocast torch.profiler.record_function torch.autograd.profiler.record_function "
    "contextlib.nullcontext contextlib.suppress warnings.catch_warnings".split()
)

# Methods that every model inherits and that only look something up.
GETTERS = frozenset("get_input_embeddings get_output_embeddings get_decoder get_encoder".split())  # noqa: SIM905

# Methods that leave a tensor as it is, but move or cast a module in place.
MODULE_METHODS = frozenset("to float half double bfloat16 type cpu cuda".split())  # noqa: SIM905

_IN_PLACE = frozenset(["zero", "fill", "copy", *OPERATIONS])


def is_harmless_function(call: Call, path: str) -> bool:
    """Whether a function from outside of the file changes nothing but what `changed_by` says of the call."""
    name = path.rsplit(".", 1)[-1]
    if path in _BUILTINS:
        return call.keyword("key") is None and (name != "getattr" or isinstance(call.argument(1, "name"), Const))
    if path == f"torch.{name}":
        known = name in OPERATIONS or name in _FUNCTIONS or name in VIEWS or _PATHS.fullmatch(path) is not None
    else:
        known = _PATHS.fullmatch(path) is not None or is_output_class(path)
    return known and not (path.startswith("torch.") and (name.endswith("_") or name in _CHANGING or in_place(call)))


def in_place(call: Call) -> bool:
    """Whether a function of `torch.nn.functional`, or what a class of `torch.nn` makes, may work in place."""
    if not isinstance(call.func, Global) or not call.func.path.startswith("torch.nn."):
        return False
    given = [value for keyword, value in call.keywords if keyword == "inplace"]
    name = call.func.path.rsplit(".", 1)[-1]
    plain = "dropout" if "dropout" in name.lower() else name.lower().replace("_", "")
    if plain in _FLAG_AT:
        in_function, in_class = _FLAG_AT[plain]
        given += call.args[in_class if name[:1].isupper() else in_function :]
    return any(flag != Const(False) for flag in given)


def is_harmless_method(name: str) -> bool:
    """Whether a method of a tensor, a dict, a list or a string changes nothing but its object."""
    return name in OPERATIONS or name in VIEWS or name in _METHODS or name in CONTAINER_METHODS or _works_in_place(name)


def is_view(name: str) -> bool:
    """Whether only tensors have a method of this name, and it changes nothing: `self.decoder.weight.t()`."""
    return (name in OPERATIONS or name in VIEWS) and name not in MODULE_METHODS


def makes_new(name: str) -> bool:
    """Whether the result of an operation shares no storage with what it was made of."""
    return (name in OPERATIONS and name != "einsum") or name.startswith("new_")


def _works_in_place(name: str) -> bool:
    return name.endswith("_") and name[:-1] in _IN_PLACE

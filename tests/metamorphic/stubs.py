"""Modules in which any modeling file runs: small torch modules for every name that the text does not define.

    world = load(text)                        # the text, executed; `BirdModel`, `BirdPreTrainedModel`, ... are stubs
    stock = run(world, "BirdForCausalLM", None, Setting())
    fused = run(world, "BirdForCausalLM", {"forward": emitted}, Setting())
    difference(stock, fused)                  # None, or what is not the same

A stub body returns hidden states of its own, a parameter, so that their gradient is compared as well. A config
answers every name with a number or a flag; `Setting` gives others, by which conditions take their other side.
"""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import linecache
import random
import re
import symtable
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn
from transformers.loss import loss_utils

from fusegen import coverage
from fusegen.codegen.one_module import ModuleEmission, emit_module
from fusegen.runtime import calls, in_memory, outcomes
from fusegen.runtime.generated_text import generated_function
from fusegen.runtime.swaps import Swap, swaps

PACKAGE = "stub_world"
BATCH, LENGTH, WIDTH, VOCABULARY = 2, 6, 8, 11
_LABELS = VOCABULARY - 2  # below every width that a config gives

# What a config answers for a name that nothing was set for: the first pattern that is found in the name.
_GUESSES: list[tuple[str, Any]] = [
    (r"unpadded_vocab|valid_vocab|real_vocab", _LABELS),
    (r"vocab|n_tokens|num_embeddings", VOCABULARY),
    (r"_token_id|pad_id|padding_idx", 1),
    (r"hidden_act|activation|hidden_activation", "gelu"),
    (r"num_labels", 3),
    (r"softcap|soft_cap|cap$|^cap|capping", 2.0),
    (r"scal|multiplier|temperature|factor|coef", 0.75),
    (r"dropout|drop|prob$|eps", 0.0),
    (r"hidden_size|d_model|n_embd|embed_dim|embedding_size|^dim$|width|hidden_dim|_dim$", WIDTH),
    (r"^num_|^n_|layers|heads", 2),
    (r"with_|has_|legacy|tie_|use_return_dict|^return_dict|bias", True),
    (r"^(is|use|output|do|add|should|return)_", False),
    (r"torchscript", False),
    (r"chunk_size", 0),
    (r"kept|image_tokens|codebooks", 2),
    (r"loss_type|problem_type|torch_dtype", None),
]


class Config:
    """Answers every name; what was answered is kept, so that a store is seen as on any object."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.endswith("_config") or name in ("decoder", "encoder"):
            return self
        value = next((value for pattern, value in _GUESSES if re.search(pattern, name)), 0.5)
        self.__dict__[name] = value
        return value

    def get_text_config(self, **_: Any) -> Config:
        return self


class Output:
    """A model output: fields by name, by number without those that are None."""

    def __init__(self, *values: Any, **fields: Any) -> None:
        self.__dict__.update(zip(("loss", "logits", "hidden_states"), values, strict=False))
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(value for value in vars(self).values() if value is not None)

    def keys(self) -> list[str]:
        return [name for name, value in vars(self).items() if value is not None]


class BodyOutput(Output):
    """What a stub body returns: its hidden states, whatever they are asked for as."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__(last_hidden_state=states)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if re.search(r"hidden_state$|embeds$|features$|sequence_output|x$", name):
            return self.last_hidden_state
        return self.last_hidden_state[:, 0] if "pool" in name else None

    def to_tuple(self) -> tuple[Any, ...]:
        return self.last_hidden_state, self.last_hidden_state[:, 0]

    def __getitem__(self, key: Any) -> Any:
        return None if isinstance(key, int) and key > 1 else super().__getitem__(key)


class _Found(nn.Module):
    """A module that answers unknown names as its config does, once it is built (`answers`)."""

    config: Any

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "answers" not in self.__dict__ or re.search(r"hook|forward|bias$", name):
                raise
            return getattr(self.config, name)


class Body(_Found):
    """An inner model or layer. A tensor comes back weighted; anything else gives the hidden states of the body."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.config = next((each for each in (*args, *kwargs.values()) if isinstance(each, Config)), None) or Config()
        self.states = nn.Parameter(torch.randn(BATCH, LENGTH, WIDTH))
        self.weight = nn.Parameter(torch.randn(WIDTH))
        self.embed_tokens = self.shared = nn.Embedding(VOCABULARY, WIDTH)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], torch.Tensor) and args[0].is_floating_point() and args[0].shape[-1] == WIDTH:
            return args[0] * self.weight
        return BodyOutput(self.states * 1.0)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    @classmethod
    def from_config(cls, config: Any, **_: Any) -> Body:
        return cls(config)

    _from_config = from_config


class PreTrained(_Found):
    """`PreTrainedModel` as far as a forward sees it; the losses are those of transformers."""

    def __init__(self, config: Any = None, *_: Any, **__: Any) -> None:
        super().__init__()
        self.config = config or Config()
        names = re.findall("|".join(loss_utils.LOSS_MAPPING), type(self).__name__)
        self.loss_type = names[0] if names else None

    @property
    def loss_function(self) -> Any:
        if "_loss_function" in self.__dict__:
            return self.__dict__["_loss_function"]
        named = getattr(self, "loss_type", None)
        return loss_utils.LOSS_MAPPING.get(named, loss_utils.ForCausalLMLoss)

    @loss_function.setter
    def loss_function(self, value: Any) -> None:
        self.__dict__["_loss_function"] = value

    def post_init(self) -> None:
        return None

    def forward(self, *_: Any, **__: Any) -> BodyOutput:
        return BodyOutput(torch.randn(BATCH, LENGTH, WIDTH))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


class _Quiet:
    """A logger and its like."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Quiet()

    def __call__(self, *_: Any, **__: Any) -> Any:
        return _Quiet()

    def __bool__(self) -> bool:
        return False


def _first_tensor(*args: Any, **kwargs: Any) -> Any:
    """A function of which only the name is known."""
    return next((each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)), None)


def _decorator(*args: Any, **_: Any) -> Any:
    """As `@decorator` and as `@decorator(...)`."""
    return args[0] if args and isinstance(args[0], FunctionType | type) else lambda decorated: decorated


def _apply_chunking_to_forward(function: Any, chunk_size: int, chunk_dim: int, *tensors: torch.Tensor) -> torch.Tensor:
    assert chunk_size == 0, "the stub knows no chunks"
    return function(*tensors)


def _slice_logits_to_keep(hidden_states: torch.Tensor, logits_to_keep: Any) -> torch.Tensor:
    kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
    return hidden_states[:, kept, :]


class _Activations(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return nn.functional.gelu


_KNOWN: dict[str, Any] = {
    "apply_chunking_to_forward": _apply_chunking_to_forward,
    "slice_logits_to_keep": _slice_logits_to_keep,
    "ACT2FN": _Activations(),
    "logger": _Quiet(),
    "logging": _Quiet(),
    "nn": nn,
    "torch": torch,
    "F": nn.functional,
    "math": __import__("math"),
    "CrossEntropyLoss": nn.CrossEntropyLoss,
    "ModelOutput": Output,
    "GradientCheckpointingLayer": nn.Module,
    "Unpack": dict,
}


@dataclass(frozen=True, slots=True)
class World:
    """An executed text; `name` is that of its module."""

    name: str
    text: str
    module: ModuleType


class _Roles(ast.NodeVisitor):
    """Names that a text uses as a base class or as a decorator."""

    def __init__(self) -> None:
        self.bases: set[str] = set()
        self.decorators: set[str] = set()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bases |= {each.id for each in node.bases if isinstance(each, ast.Name)}
        self._decorated(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._decorated(node)

    def _decorated(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        called = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
        self.decorators |= {each.id for each in called if isinstance(each, ast.Name)}
        self.generic_visit(node)


def _stub(name: str, roles: _Roles) -> Any:
    if name in _KNOWN:
        return _KNOWN[name]
    if name in roles.decorators:
        return _decorator
    if "Mixin" in name or name in ("Generic", "Protocol"):
        return type(name, (), {})
    if "Output" in name:
        return type(name, (Output,), {"__module__": PACKAGE})
    if name in roles.bases or name.endswith("PreTrainedModel"):
        return type(name, (PreTrained,), {"__module__": PACKAGE})
    if name.endswith("Config"):
        return type(name, (Config,), {"__module__": PACKAGE})
    if name[:1].isupper():
        return type(name, (Body,), {"__module__": PACKAGE, "__class_getitem__": classmethod(lambda cls, _: cls)})
    return _first_tensor


def load(text: str, model: str = "bird") -> World:
    """Execute a modeling file. What it imports from outside of torch and the standard library are stubs."""
    name = f"{PACKAGE}.models.{model}.modeling_{model}"
    tree = ast.parse(text)
    roles = _Roles()
    roles.visit(tree)
    module = module_from_spec(ModuleSpec(name, _Loader(text), origin=f"{name}.py"))
    module.__file__ = f"{name}.py"
    stubs: dict[str, Any] = {}

    def stub(named: str) -> Any:
        if named not in stubs:
            stubs[named] = _stub(named, roles)
        return stubs[named]

    def import_(named: str, *args: Any) -> Any:
        level = args[3] if len(args) > 3 else 0
        if level == 0 and named.split(".")[0] not in ("transformers", "acme") and named.split(".")[0] in _REAL:
            return builtins.__import__(named, *args)
        return _StubModule(named, stub)

    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_}
    for free in _globals(symtable.symtable(text, name, "exec")) - set(dir(builtins)):
        module.__dict__[free] = stub(free)
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), module.__file__)
    _register(name, module)
    exec(compile(text, module.__file__, "exec", dont_inherit=True), module.__dict__)
    return World(name, text, module)


_REAL = {"torch", "functools", "contextlib", "copy", "random", "operator", "itertools", "math", "dataclasses", "typing"}
_REAL |= {"collections", "types", "numpy", "os", "sys", "warnings", "inspect", "__future__", "abc", "enum", "re"}


class _Loader(InspectLoader):
    """Knows the text of a module, by which `install` sees whether a method is as it was written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text

    def get_filename(self, fullname: str) -> str:
        return f"{fullname}.py"

    def create_module(self, spec: ModuleSpec) -> None:
        return None


class _StubModule(ModuleType):
    """A module that has every name."""

    def __init__(self, name: str, stub: Callable[[str], Any]) -> None:
        super().__init__(name)
        self.__dict__["stub"] = stub

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__["stub"](name)


def _globals(table: symtable.SymbolTable) -> set[str]:
    """Names that some scope of a text takes from its module and that the module does not bind."""
    bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used: set[str] = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    tables = list(table.get_children())
    while tables:
        inner = tables.pop()
        tables += inner.get_children()
        used |= {symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global()}
        bound |= {each.get_name() for each in inner.get_symbols() if each.is_declared_global() and each.is_assigned()}
    return used - bound - {"__class__", "__name__"}


def _register(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    while "." in name:
        package, _, last = name.rpartition(".")
        parent = sys.modules.setdefault(package, ModuleType(package))
        parent.__path__ = []
        setattr(parent, last, module)
        name, module = package, parent


def emission(world: World) -> ModuleEmission:
    """What fusegen generates for a text, as `install(model)` asks for it."""
    stock = inspect.getsource(loss_utils).encode()
    return emit_module(world.name, world.text.encode(), "0", source_version="0", loss_utils=stock)


def fused_methods(world: World, generated: ModuleEmission) -> dict[str, dict[str, FunctionType]]:
    """The generated methods that `install` would put in place, by class and name."""
    found: dict[str, dict[str, FunctionType]] = {}
    for site in generated.sites if generated.text is not None else ():
        place = site.class_name, site.method
        name = f"{in_memory.PREFIX}.{world.name}"
        function = generated_function(generated.text or "", f"<{name}>", name, world.name, *place)
        body = outcomes.Body(world.name, *place, function, outcomes.IN_MEMORY)
        swap = swaps.planned(getattr(world.module, site.class_name), body)
        if isinstance(swap, Swap):
            found.setdefault(site.class_name, {})[site.method] = swap.function
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a model: config, arguments of its forward, dtype and seed; `change` is done to it first."""

    config: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    seed: int = 0
    change: Callable[[Any], None] | None = None


@dataclass(slots=True)
class Ran:
    """What a call did: its loss, its gradients, what it returned and what it left behind; or what it raised."""

    raised: str | None = None
    message: str = ""
    loss: Any = None
    needs_gradient: bool = False
    gradients: dict[str, torch.Tensor | None] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    fused: int = 0
    outcomes: tuple[str, ...] = ()
    read: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()


def labels(seed: int = 0) -> torch.Tensor:
    """Labels of which some are ignored."""
    generator = torch.Generator().manual_seed(1000 + seed)
    found = torch.randint(0, _LABELS, (BATCH, LENGTH), generator=generator)
    found[0, :2] = -100
    found[1, 3] = -100
    return found


def _argument(name: str, seed: int) -> Any:
    """A tensor for a parameter that a forward usually gets; None where its default does."""
    generator = torch.Generator().manual_seed(2000 + seed)
    if re.search(r"^(next_sentence|sentence_order|mc|sequence|image_text)\w*label", name):
        return torch.tensor([0, 1])
    if "labels" in name:
        return labels(seed)
    if "input_ids" in name:
        return torch.randint(2, _LABELS, (BATCH, LENGTH), generator=generator)
    return None


def _arguments(function: Any, setting: Setting) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        value = _argument(name, setting.seed)
        if value is not None:
            given[name] = value
        elif parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            given[name] = torch.randn(BATCH, LENGTH, WIDTH, generator=torch.Generator().manual_seed(3))
    return given | copy.deepcopy(setting.arguments)


def run(world: World, owner: str, methods: dict[str, FunctionType] | None, setting: Setting) -> Ran:
    """One training step of a class of the world, with `methods` in place of its own."""
    found = Ran()
    cls = getattr(world.module, owner)
    before = {name: vars(cls)[name] for name in methods or {}}
    calls.reset_coverage()
    random.seed(setting.seed)
    torch.default_generator.manual_seed(setting.seed)
    try:
        config = Config(**copy.deepcopy(setting.config))
        for name, function in (methods or {}).items():
            setattr(cls, name, function)
        model = cls(config)
        torch.default_generator.manual_seed(setting.seed + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.5)
        for module in model.modules():
            if isinstance(module, _Found):
                module.__dict__["answers"] = True
        model = model.to(setting.dtype).train()
        if setting.change is not None:
            setting.change(model)
        names = dict(model.named_parameters())
        given = _arguments(type(model).forward.__get__(model), setting)
        found.parameters = tuple(inspect.signature(type(model).forward).parameters)
        torch.default_generator.manual_seed(setting.seed + 2)
        output = model(**given)
        _keep(found, output)
        if isinstance(found.loss, torch.Tensor) and found.loss.requires_grad:
            found.loss.sum().backward()
        found.gradients = {name: None if p.grad is None else p.grad.clone() for name, p in names.items()}
        found.state = _state(model, names, given)
        found.read = dict(vars(config))
    except Exception as error:
        found.raised, found.message = type(error).__name__, str(error)
    finally:
        for name, function in before.items():
            setattr(cls, name, function)
        torch.set_grad_enabled(True)
        torch.set_autocast_enabled("cpu", False)
        _clear_hooks()
    counts = list(coverage().values())
    found.fused = sum(each.get(calls.FUSED, 0) for each in counts)
    found.outcomes = tuple(sorted({name for each in counts for name in each}))
    return found


def _clear_hooks() -> None:
    from torch.nn.modules import module as nn_module

    nn_module._global_forward_hooks.clear()
    nn_module._global_forward_pre_hooks.clear()


def _keep(found: Ran, output: Any) -> None:
    if isinstance(output, torch.Tensor):
        found.loss = output
    elif isinstance(output, tuple | list):
        found.loss = output[0] if output else None
        found.fields = {str(number): value for number, value in enumerate(output)}
    else:
        fields = dict(output) if isinstance(output, dict) else dict(vars(output))
        found.fields = fields
        found.loss = next((value for name, value in fields.items() if "loss" in name and value is not None), None)
    if isinstance(found.loss, torch.Tensor):
        found.needs_gradient = found.loss.requires_grad


def _state(model: nn.Module, names: dict[str, nn.Parameter], given: dict[str, Any]) -> dict[str, Any]:
    """What a call leaves behind: weights, plain attributes, its arguments, the random generator."""
    plain = (int, float, str, bool, type(None))
    state: dict[str, Any] = {name: parameter.detach().clone() for name, parameter in names.items()}
    state |= {f"{name} needs a gradient": parameter.requires_grad for name, parameter in names.items()}
    state |= {f"self.{name}": value for name, value in vars(model).items() if isinstance(value, plain)}
    state |= {f"argument {name}": value for name, value in given.items() if isinstance(value, torch.Tensor)}
    state["random"] = torch.get_rng_state()
    state["grad mode"] = torch.is_grad_enabled()
    return state


def difference(stock: Ran, fused: Ran, tolerance: float = 2e-5) -> str | None:
    """What a fused call did otherwise, in one line; None where nothing is."""
    if stock.raised and fused.raised:
        return None
    if stock.raised or fused.raised:
        what = f"{fused.raised or 'nothing'} ({fused.message[:90]})"
        return f"raises {what}, the original {stock.raised or 'nothing'} ({stock.message[:90]})"
    if not _same(stock.loss, fused.loss, tolerance):
        return f"loss {_shown(fused.loss)}, the original {_shown(stock.loss)}"
    if stock.needs_gradient != fused.needs_gradient:
        return f"requires_grad of the loss {fused.needs_gradient}, the original {stock.needs_gradient}"
    for name, gradient in stock.gradients.items():
        if not _same(gradient, fused.gradients.get(name), tolerance):
            return f"gradient of {name} {_shown(fused.gradients.get(name))}, the original {_shown(gradient)}"
    for name, value in stock.state.items():
        if not _same(value, fused.state.get(name), tolerance):
            return f"{name} is left as {_shown(fused.state.get(name))}, by the original as {_shown(value)}"
    return _other_output(stock, fused, tolerance)


def _other_output(stock: Ran, fused: Ran, tolerance: float) -> str | None:
    if stock.fields.keys() != fused.fields.keys():
        return f"fields {list(fused.fields)}, the original {list(stock.fields)}"
    for name, value in stock.fields.items():
        ours = fused.fields[name]
        left_out = ours is None and isinstance(value, torch.Tensor) and value.dim() >= 2
        if not left_out and not _same(value, ours, tolerance):
            return f"the output's {name} is {_shown(ours)}, the original's {_shown(value)}"
    return None


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not one.is_floating_point():
            return torch.equal(one, other)
        one, other = one.detach().double(), other.detach().double()
        finite = torch.isfinite(one)
        if not torch.equal(finite, torch.isfinite(other)) or not torch.equal(one.isnan(), other.isnan()):
            return False
        one, other = one[finite], other[finite]
        return bool((one - other).norm() <= tolerance * one.norm() + 1e-6)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(_same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, Output | torch.Tensor) or isinstance(other, torch.Tensor):
        return type(one).__name__ == type(other).__name__
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance * abs(one) + 1e-6 or one != one
    if isinstance(one, int | str | bool | type(None)) or isinstance(other, int | str | bool | type(None)):
        return bool(type(one) is type(other) and one == other)
    # Each run has a world of its own, with classes of its own.
    return type(one).__name__ == type(other).__name__


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.detach().double().norm():.6g} {str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return repr(value)[:60]

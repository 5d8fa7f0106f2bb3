"""A change of dtype: an operation, since a model may compute the rest in float32 on purpose. Moves are not."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Attr, Call, Const, Global, Value, describe

_NAMED = {"float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16"}


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case Call(Attr(logits, method), (), ()) if method in _NAMED:
            return Step("cast", logits, (("dtype", Global(f"torch.{_NAMED[method]}")),), value.node)
        case Call(Attr(logits, "type" | "type_as"), (target,), ()):
            return Step("cast", logits, (("dtype", target),), value.node)
        case Call(Attr(logits, "cpu" | "cuda"), _, _):
            return Step("", logits, (), value.node)
        case Call(Attr(logits, "to"), arguments, keywords):
            casts: list[tuple[str, Value]] = []
            given: list[tuple[str | None, Value]] = [*((None, argument) for argument in arguments), *keywords]
            for name, target in given:
                kind = name if name in ("dtype", "device") else _kind(target)
                if name in ("non_blocking", "copy") or kind == "device":
                    continue
                if kind != "dtype" or name not in (None, "dtype"):
                    return Refusal(
                        "FG201", value.node, f"`.to({describe(target)})`: neither a dtype nor a device by its name"
                    )
                casts.append(("dtype", target))
            return Step("cast" if casts else "", logits, tuple(casts), value.node)
    return None


def _kind(target: Value) -> str | None:
    match target:
        case Attr(_, "device"):
            return "device"
        case Attr(_, "dtype"):
            return "dtype"
        case Global(path) if path.startswith("torch."):
            return "dtype"
        case Const(str()):
            return "device"
    return None

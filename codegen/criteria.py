"""Whether the criterion of a loss is only called: what else gets hold of it may change its settings.

loss_fct = CrossEntropyLoss()
loss_fct.register_forward_hook(double)      # another loss than the one that was made
loss = loss_fct(logits, labels)
"""

from __future__ import annotations

import ast

from fusegen.codegen.bindings import Trace
from fusegen.codegen.losses import Loss
from fusegen.codegen.values import Attr, Call, Global, Value

_LEAVES = frozenset(("attribute", "closure", "return", "changed", "opaque expression", "opaque statement"))


def criterion_changed(loss: Loss, walked: Trace) -> ast.AST | None:
    """Where the criterion that a loss calls is used for more than a call of it, None if nowhere."""
    made = loss.call.func
    if loss.kind != "cross_entropy" or isinstance(made, Global):
        return None
    for place, _, _ in walked.stores:
        if _holds(place.base, made):
            return place.node
    for record in walked.calls:
        call = record.call
        method = isinstance(call.func, Attr) and _holds(call.func.base, made)
        if method or any(_holds(value, made) for value in (*call.args, *(item for _, item in call.keywords))):
            return call.node
    return next((sink.node for sink in walked.sinks if sink.kind in _LEAVES and _holds(sink.value, made)), None)


def _holds(value: Value, made: Value) -> bool:
    """Whether a criterion can be got at in a value: not in what it returned."""
    seen: set[Value] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if part == made:
            return True
        if part not in seen:
            seen.add(part)
            called = isinstance(part, Call) and (part.func == made or not isinstance(part.func, Attr))
            waiting += part.children()[called:]
    return False

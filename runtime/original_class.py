"""Generated classes that are used as they are: their methods are those that `install` would put on the original.

@stands_for_original
class LlamaForCausalLM(_source.LlamaForCausalLM):
    def forward(self, ...):            # by the names, defaults and decorators of _source.LlamaForCausalLM.forward,
        super().forward(...)           # and as if it stood there
"""

from __future__ import annotations

from types import FunctionType

from fusegen.runtime.generated_text import generated_function, text_of
from fusegen.runtime.stand_in import in_place_of
from fusegen.runtime.swaps import swaps


def stands_for_original(cls: type) -> type:
    """`cls` itself, a generated class, whose methods run as methods of its base. Its module needs a source.

    Raises:
        CannotStandIn: one of them cannot; says why.
    """
    (base,) = cls.__bases__
    text, file = text_of(cls.__module__)
    for name, function in list(vars(cls).items()):
        original = swaps.original(base, name)
        if isinstance(function, FunctionType) and isinstance(original, FunctionType):
            made = generated_function(text, file, cls.__module__, base.__module__, cls.__name__, name)
            setattr(cls, name, in_place_of(original, base, made))
    return cls

"""In which form a modeling file is generated, and where it goes.

class    class LlamaForCausalLM(_source.LlamaForCausalLM): def forward(...)     `fusegen.install` puts it in place
full     the complete modeling file with the forwards changed in it             for people who vendor a model
patch    --- a/models/llama/modeling_llama.py  +++ b/models/llama/...           for `git apply --directory`
"""

from __future__ import annotations

CLASS = "class"
FULL = "full"
PATCH = "patch"
LAYOUTS = (CLASS, FULL, PATCH)


def generated_path(layout: str, path: str) -> str:
    """Where the text for a modeling file goes, below the output folder."""
    below = path.removeprefix("models/")
    return below.removesuffix(".py") + ".patch" if layout == PATCH else below

"""Twenty steps of the real Trainer, stock beside patched: the same losses, checkpoints, metrics and tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import transformers
from families import FAMILIES, Family
from safetensors import safe_open

from fusegen.runtime import coverage, install

pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")

STEPS, BATCH, ACCUMULATION = 20, 2, 2
# A plain decoder, a soft cap, a scale, experts with an auxiliary loss, an encoder-decoder, a composite head, images
# beside text.
TRAINED = [
    "LlamaForCausalLM",
    "Gemma2ForCausalLM",
    "CohereForCausalLM",
    "MixtralForCausalLM",
    "T5ForConditionalGeneration",
    "BertForMaskedLM",
    "LlavaForConditionalGeneration",
]
# The Trainer gathers tensors: a cache is none, and the output of Llava's tower holds a None (transformers 5.24).
NOT_GATHERED = ["cache", "image_outputs"]
BY_NAME = {family.name: family for family in FAMILIES}
each_family = pytest.mark.parametrize("family", [BY_NAME[name] for name in TRAINED], ids=str)


@dataclass(frozen=True)
class Training:
    """What is left of a training: what the Trainer logged and saved, and what the model says afterwards."""

    losses: list[float]
    takes_loss_keywords: bool
    files: set[str]
    config: dict[str, Any]
    shapes: dict[str, list[int]]
    metrics: dict[str, float]
    generated: list[list[int]] | None


def examples(family: Family, count: int) -> list[dict[str, torch.Tensor]]:
    """Single examples, no two batches of which count the same number of labels."""
    rows = []
    for seed in range(count // 2):
        batch = family.batch(seed)
        rows += [{name: values[row] for name, values in batch.items()} for row in range(2)]
    return rows


def logits_of(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """The logits among what an evaluation step leaves (experts have their auxiliary loss before them)."""
    return next(output for output in (outputs if isinstance(outputs, tuple) else (outputs,)) if output.dim() == 3)


def metrics(prediction: transformers.EvalPrediction) -> dict[str, float]:
    """What the metrics see of the logits: the tokens that they predict, and how far they spread."""
    logits = prediction.predictions
    predicted = logits.argmax(-1)[prediction.label_ids != -100]
    return {"predicted": float((predicted * numpy.arange(1, len(predicted) + 1)).sum()), "spread": float(logits.std())}


def trainer_for(family: Family, folder: Path, **arguments: Any) -> transformers.Trainer:
    transformers.set_seed(0)
    model = family.build()
    for name, value in family.extra.items():
        setattr(model.config, name, value)
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(output_dir=str(folder), **settings | arguments),
        train_dataset=examples(family, STEPS * BATCH * ACCUMULATION),
        eval_dataset=examples(family, 2 * BATCH),
        compute_metrics=metrics,
        preprocess_logits_for_metrics=logits_of,
    )


def losses_of(trainer: transformers.Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def trained(family: Family, folder: Path) -> Training:
    trainer = trainer_for(family, folder, save_strategy="steps", save_steps=STEPS)
    trainer.train()
    evaluated = trainer.evaluate(ignore_keys=NOT_GATHERED)
    checkpoint = folder / f"checkpoint-{STEPS}"
    with safe_open(checkpoint / "model.safetensors", "pt") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return Training(
        losses=losses_of(trainer),
        takes_loss_keywords=trainer.model_accepts_loss_kwargs,
        files={path.name for path in checkpoint.iterdir()},
        config=json.loads((checkpoint / "config.json").read_text()),
        shapes=shapes,
        metrics={name: value for name, value in evaluated.items() if "per_second" not in name},
        generated=generated(trainer.model.eval(), family),
    )


def generated(model: Any, family: Family) -> list[list[int]] | None:
    if not model.can_generate():
        return None
    prompt = {name: value for name, value in family.batch().items() if name not in ("labels", "decoder_input_ids")}
    return model.generate(**prompt, max_new_tokens=8, do_sample=False).tolist()


@each_family
def test_the_trainer_does_the_same(family: Family, tmp_path: Path) -> None:
    stock = trained(family, tmp_path / "stock")
    assert coverage() == {}, "a generated forward ran before anything was installed"
    install()
    patched = trained(family, tmp_path / "patched")

    (outcomes,) = coverage().values()
    assert outcomes == {"fused": STEPS * ACCUMULATION, "FG511": 2}
    assert len(stock.losses) == STEPS
    assert patched.losses == pytest.approx(stock.losses, rel=1e-5)
    assert patched.takes_loss_keywords == stock.takes_loss_keywords
    assert patched.files == stock.files
    assert patched.config == stock.config
    assert patched.config["architectures"] == [family.name]
    assert patched.shapes == stock.shapes
    assert patched.metrics.pop("eval_runtime")
    assert stock.metrics.pop("eval_runtime")
    assert patched.metrics == pytest.approx(stock.metrics, rel=1e-5)
    assert patched.metrics["eval_predicted"] == stock.metrics["eval_predicted"] > 0
    assert patched.generated == stock.generated


@each_family
def test_smoothed_labels_give_the_same_number(family: Family, tmp_path: Path) -> None:
    """The Trainer takes the labels away and reads the logits, in a way that depends on the name of the class."""
    settings = {"max_steps": 2, "label_smoothing_factor": 0.1}
    stock, patched = (trainer_for(family, tmp_path, **settings) for _ in range(2))
    stock.train()
    install()
    patched.train()
    assert len(losses_of(stock)) == 2
    assert losses_of(patched) == losses_of(stock)

"""Tiny random models of the families that are trained and compared: one for each way in which losses are called.

Multipliers and soft caps are far from neutral and the logits spread, so that a forward that leaves one out
gives another number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

VOCABULARY = 64
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MULTI_HEAD = TEXT | {"num_key_value_heads": 4}
SEQUENCE_TO_SEQUENCE = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "dropout": 0.0,
}


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY - 4, shape, generator=torch.Generator().manual_seed(seed))


def labelled(*shape: int, seed: int = 0) -> torch.Tensor:
    """Labels of which other seeds ignore another number."""
    labels = tokens(*shape, seed=seed + 1)
    labels[0, 3] = labels[1, 5:7] = labels[0, : seed % 5] = -100
    return labels


def text_batch(seed: int = 0) -> dict[str, Any]:
    return {"input_ids": tokens(2, 10, seed=seed), "labels": labelled(2, 10, seed=seed)}


def decoded_batch(seed: int = 0) -> dict[str, Any]:
    """With the decoder's inputs, which a model cannot make itself where labels are smoothed outside of it."""
    return text_batch(seed) | {"decoder_input_ids": tokens(2, 10, seed=seed + 2)}


def image_batch(seed: int = 0) -> dict[str, Any]:
    """Four tokens of an image, which count for nothing, before the text."""
    batch = text_batch(seed)
    batch["input_ids"][:, :4], batch["labels"][:, :4] = VOCABULARY - 1, -100
    return batch | {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))}


def codebook_batch() -> dict[str, Any]:
    """Positions without audio, with all codebooks, and with the first one only."""
    labels = tokens(2, 10, 4, seed=1)
    labels[:, 0] = labels[0, :3] = labels[1, 4, 1:] = -100
    return {"input_ids": tokens(2, 10, 4), "labels": labels}


def audio_batch() -> dict[str, Any]:
    return {
        "input_values": torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)),
        "labels": labelled(2, 10),
    }


def visual_batch() -> dict[str, Any]:
    visual = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    return {
        "input_ids": tokens(2, 10),
        "attention_mask": torch.ones(2, 10),
        "visual_embeds": visual,
        "visual_attention_mask": torch.ones(2, 3),
        "labels": labelled(2, 13),
    }


def entity_batch() -> dict[str, Any]:
    positions = torch.full((2, 3, 4), -1)
    positions[..., 0] = torch.tensor([1, 4, 7])
    return text_batch() | {
        "entity_ids": tokens(2, 3, seed=4),
        "entity_position_ids": positions,
        "entity_attention_mask": torch.ones(2, 3, dtype=torch.long),
        "entity_labels": tokens(2, 3, seed=5),
    }


@dataclass(frozen=True)
class Family:
    """A class, its configuration, and what it is called with."""

    name: str
    config: str
    settings: dict[str, Any]
    batch: Callable[..., dict[str, Any]] = text_batch
    extra: dict[str, Any] = field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        """The model in training, with parameters and biases that are far from their defaults."""
        torch.manual_seed(0)
        model = getattr(transformers, self.name)(getattr(transformers, self.config)(**self.settings))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
            head = model.get_output_embeddings()
            if head is not None:
                head.weight.mul_(10)
            if getattr(model, "final_logits_bias", None) is not None:
                model.final_logits_bias.normal_()
        return model.train()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Several:
    """A family with its fused calls by class, and the fields of its output that are None then."""

    family: Family
    fused: dict[str, int]
    cleared: tuple[str, ...]

    def __str__(self) -> str:
        return self.family.name


MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "attn_pdrop": 0.0}
T5GEMMA = TEXT | {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0, "dropout_rate": 0.0}
MOBILE = ENCODER | {"embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32}
PERCEIVER = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_latents": 32,
    "num_latents": 8,
    "num_blocks": 1,
    "num_self_attends_per_block": 1,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 4,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 10,
}
XLM = {"vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "dropout": 0.0, "attention_dropout": 0.0}
FAMILIES = [
    Family("LlamaForCausalLM", "LlamaConfig", TEXT),
    Family("Gemma2ForCausalLM", "Gemma2Config", TEXT | {"final_logit_softcapping": 2.0}),
    Family("CohereForCausalLM", "CohereConfig", TEXT | {"logit_scale": 0.37}),
    Family("GraniteForCausalLM", "GraniteConfig", TEXT | {"logits_scaling": 3.0}),
    Family(
        "MuseGlimmerForConditionalGeneration",
        "MuseGlimmerConfig",
        {
            "text_config": TEXT | {"output_multiplier": 0.37, "final_logit_softcapping": 2.0},
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "layer_types": ["full_attention"] * 2,
            },
            "image_token_id": VOCABULARY - 1,
        },
    ),
    Family(
        "Inkling2ForCausalLM",
        "Inkling2TextConfig",
        {
            **{name: value for name, value in TEXT.items() if name != "intermediate_size"},
            "unpadded_vocab_size": VOCABULARY - 4,
            "swa_num_attention_heads": 4,
            "swa_num_key_value_heads": 2,
            "swa_head_dim": 8,
            "moe_intermediate_size": 24,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "final_logit_softcapping": 2.0,
        },
    ),
    Family("BartForConditionalGeneration", "BartConfig", SEQUENCE_TO_SEQUENCE),
    Family(
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "dropout_rate": 0.0,
            "decoder_start_token_id": 0,
        },
        decoded_batch,
    ),
    Family(
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        {
            "text_config": TEXT | {"model_type": "llama"},
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 8,
                "patch_size": 4,
            },
            "image_token_index": VOCABULARY - 1,
            "image_seq_length": 4,
        },
        image_batch,
    ),
    Family(
        "MixtralForCausalLM",
        "MixtralConfig",
        TEXT | MOE | {"router_aux_loss_coef": 0.5},
        extra={"output_router_logits": True},
    ),
    Family(
        "NllbMoeForConditionalGeneration",
        "NllbMoeConfig",
        SEQUENCE_TO_SEQUENCE
        | {
            "num_experts": 4,
            "expert_capacity": 64,
            "encoder_sparse_step": 2,
            "decoder_sparse_step": 2,
            "router_aux_loss_coef": 0.5,
            "encoder_layerdrop": 0.0,
            "decoder_layerdrop": 0.0,
            "moe_token_dropout": 0.0,
        },
        extra={"output_router_logits": True},
    ),
    Family(
        "MoonshineForConditionalGeneration",
        "MoonshineConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "encoder_num_hidden_layers": 2,
            "decoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
            "pad_token_id": 0,
        },
        audio_batch,
    ),
    Family(
        "CsmForConditionalGeneration",
        "CsmConfig",
        TEXT
        | {
            "num_codebooks": 4,
            "text_vocab_size": VOCABULARY,
            "codebook_pad_token_id": VOCABULARY - 1,
            "codebook_eos_token_id": 0,
            "audio_token_id": VOCABULARY - 2,
            "audio_eos_token_id": VOCABULARY - 3,
            "depth_decoder_config": TEXT | {"num_codebooks": 4, "backbone_hidden_size": 32},
            "codec_config": {
                "model_type": "mimi",
                "num_filters": 4,
                "hidden_size": 64,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "codebook_size": 64,
                "codebook_dim": 8,
                "vector_quantization_hidden_dimension": 8,
                "num_quantizers": 4,
                "upsample_groups": 4,
                "upsampling_ratios": [2, 2],
            },
        },
        codebook_batch,
    ),
    Family(
        "FalconMambaForCausalLM",
        "FalconMambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "time_step_rank": 4},
    ),
    Family("EuroBertForMaskedLM", "EuroBertConfig", MULTI_HEAD | {"mask_token_id": VOCABULARY - 1}),
    Family(
        "XGLMForCausalLM",
        "XGLMConfig",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "ffn_dim": 48,
            "num_layers": 2,
            "attention_heads": 4,
            "max_position_embeddings": 64,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "layerdrop": 0.0,
        },
    ),
    Family(
        "ModernBertDecoderForCausalLM",
        "ModernBertDecoderConfig",
        MULTI_HEAD | {"cls_token_id": 1, "sep_token_id": 2, "local_attention": 8},
    ),
    Family(
        "XLNetLMHeadModel",
        "XLNetConfig",
        {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "dropout": 0.0},
    ),
    # A composite head: through two modules, in statements of its own, with a bias behind it, with one linear only.
    Family("BertForMaskedLM", "BertConfig", ENCODER),
    Family("RobertaForCausalLM", "RobertaConfig", ENCODER | {"is_decoder": True, "max_position_embeddings": 64}),
    Family("EsmForMaskedLM", "EsmConfig", ENCODER | {"mask_token_id": 3, "position_embedding_type": "rotary"}),
    Family("T5GemmaForConditionalGeneration", "T5GemmaConfig", {"encoder": T5GEMMA, "decoder": T5GEMMA}),
    # Hidden states under the name of the logits; rows chosen after the head.
    Family("ElectraForMaskedLM", "ElectraConfig", ENCODER | {"embedding_size": 32}),
    Family("BlipTextLMHeadModel", "BlipTextConfig", ENCODER | {"encoder_hidden_size": 32, "is_decoder": True}),
]

# Several losses or conditions, or a head in a class of its own: what is counted as fused, and what is cleared.
SEVERAL = [
    Several(
        Family("BertForPreTraining", "BertConfig", ENCODER, extra={"next_sentence_label": torch.tensor([0, 1])}),
        {"BertForPreTraining": 1},
        ("prediction_logits",),
    ),
    Several(
        Family("VisualBertForPreTraining", "VisualBertConfig", ENCODER | {"visual_embedding_dim": 16}, visual_batch),
        {"VisualBertForPreTraining": 1},
        ("prediction_logits",),
    ),
    Several(
        Family("GPT2DoubleHeadsModel", "GPT2Config", GPT2, extra={"mc_token_ids": torch.tensor([3, 9])}),
        {"GPT2DoubleHeadsModel": 1},
        ("logits",),
    ),
    Several(
        Family(
            "LukeForMaskedLM",
            "LukeConfig",
            ENCODER | {"entity_vocab_size": VOCABULARY, "entity_emb_size": 16, "max_position_embeddings": 64},
            entity_batch,
        ),
        {"LukeForMaskedLM": 2},
        ("logits", "entity_logits"),
    ),
    Several(Family("XLMWithLMHeadModel", "XLMConfig", XLM), {"XLMPredLayer": 1}, ("logits",)),
    Several(
        Family("DebertaForMaskedLM", "DebertaConfig", ENCODER | {"legacy": True}), {"DebertaForMaskedLM": 1}, ("logits",)
    ),
    # Heads that are no linear: two weights put together, the weight of an embedding.
    Several(Family("MobileBertForMaskedLM", "MobileBertConfig", MOBILE), {"MobileBertForMaskedLM": 1}, ("logits",)),
    Several(Family("PerceiverForMaskedLM", "PerceiverConfig", PERCEIVER), {"PerceiverForMaskedLM": 1}, ("logits",)),
]

# verdict: delegated to self.language_model

import torch
from torch import nn


class BirdForConditionalGeneration(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        outputs = self.language_model(inputs_embeds=self.model(input_ids)[0], labels=labels, **kwargs)
        loss = outputs.loss if labels is not None else None
        return CausalLMOutputWithPast(loss=loss, logits=outputs.logits)

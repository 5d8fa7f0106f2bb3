# verdict: reject FG102 at 16

import torch
from torch import nn


class BirdForConditionalGeneration(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        outputs = self.language_model(inputs_embeds=self.model(input_ids)[0])
        logits = outputs.logits
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

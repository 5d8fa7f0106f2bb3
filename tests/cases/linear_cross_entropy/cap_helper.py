# verdict: match
# head: self.lm_head
# labels: shifted
# chain: soft_cap(cap=self.config.cap) when self.config.cap is not None
# keywords: **kwargs
# guards: none

import torch
from torch import nn


def soft_cap(values, cap_value):
    if cap_value is None:
        return values
    return cap_value * torch.tanh(values / cap_value)


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        logits = soft_cap(logits, self.config.cap)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

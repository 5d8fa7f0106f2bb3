# verdict: match
# head: self.a
# bias: yes
# labels: shifted
# chain: none
# keywords: **kwargs
# guards: self.config.legacy

import torch
from torch import nn


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.a = nn.Linear(config.hidden_size, config.vocab_size)
        self.b = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if self.config.legacy:
            logits = self.a(hidden_states)
        else:
            logits = self.b(hidden_states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

# verdict: reject FG101 at 17

import torch
from torch import nn


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.decoder = nn.Linear(config.a, config.vocab_size)
        self.dense = nn.Linear(config.a, config.vocab_size)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = hidden_states.matmul(torch.cat([self.decoder.weight.t(), self.dense.weight], dim=1))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

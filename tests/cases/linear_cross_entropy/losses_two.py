# verdict: match
# loss: self.loss_function
# head: self.a
# bias: yes
# labels: shifted
# chain: none
# loss: self.loss_function
# head: self.b
# bias: yes
# labels: shifted
# chain: none
# guards: none

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
        first, second = self.a(hidden_states), self.b(hidden_states)
        loss = None
        if labels is not None:
            loss = self.loss_function(first, labels, self.vocab_size) + self.loss_function(second, labels, self.vocab_size)
        return CausalLMOutputWithPast(loss=loss)

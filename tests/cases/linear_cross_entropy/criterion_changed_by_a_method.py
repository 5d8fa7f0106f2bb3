# verdict: reject FG208 at 24

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def configure(self, fct):
        fct.ignore_index = 0

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            fct = CrossEntropyLoss()
            self.configure(fct)
            loss = fct(logits.view(-1, self.vocab_size), labels.clamp(min=0).view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

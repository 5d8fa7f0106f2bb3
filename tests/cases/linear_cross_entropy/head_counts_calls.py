# verdict: match
# head: self.lm_head in self.lm_head.decoder
# before: self.lm_head.transform
# labels: shifted
# chain: none
# keywords: **kwargs
# guards: none

import torch
from torch import nn


class BirdHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.calls = 0
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, hidden_states):
        self.calls += 1
        return self.decoder(self.transform(hidden_states))


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.dropout = nn.Dropout(0.1)
        self.vocab_size = config.vocab_size
        self.lm_head = BirdHead(config)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(self.dropout(hidden_states))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

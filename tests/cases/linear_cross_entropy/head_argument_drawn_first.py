# verdict: match
# head: self.lm_head in self.lm_head.decoder
# before: self.lm_head.dropout
# labels: shifted
# chain: none
# keywords: **kwargs
# guards: none

import torch
from torch import nn


class BirdHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.rel = nn.Linear(config.hidden_size, 2)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, hidden_states, pooled=None):
        return self.decoder(self.dropout(hidden_states)), self.rel(pooled)


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.dropout = nn.Dropout(0.5)
        self.lm_head = BirdHead(config)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits, rel = self.lm_head(hidden_states, self.dropout(hidden_states))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        loss = loss + rel.sum()
        return CausalLMOutputWithPast(loss=loss, logits=logits)

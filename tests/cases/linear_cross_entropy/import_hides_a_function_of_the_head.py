# verdict: match
# head: self.lm_head in self.lm_head.decoder
# before: torch.nn.functional.gelu
# labels: shifted
# chain: none
# keywords: **kwargs
# guards: none

import torch
from torch import nn
from torch.nn.functional import gelu


class BirdHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, hidden_states, pooled=None):
        return self.decoder(gelu(hidden_states))


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = BirdHead(config)

    def forward(self, input_ids=None, labels=None, **kwargs):
        from torch.nn.functional import relu as gelu
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

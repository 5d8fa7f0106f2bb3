# verdict: match
# head: self.lm_head
# labels: shifted
# chain: none
# keywords: **kwargs
# guards: the output is no tuple that leaves out what is None (line 26)

import torch
from torch import nn


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, return_dict=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        if not return_dict:
            return tuple(v for v in (loss, logits, hidden_states) if v is not None)
        else:
            return CausalLMOutputWithPast(loss=loss, logits=logits)

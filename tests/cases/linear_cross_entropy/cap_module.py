# verdict: match
# head: self.lm_head
# labels: shifted
# chain: cast(dtype=float32) > soft_cap(cap=self.logit_softcap.softcap)
# keywords: **kwargs
# guards: none

import torch
from torch import nn


class BirdSoftcap(nn.Module):
    def __init__(self, softcap):
        super().__init__()
        self.softcap = softcap

    def forward(self, logits):
        return self.softcap * torch.tanh(logits / self.softcap)


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.logit_softcap = BirdSoftcap(config.cap)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        logits = self.logit_softcap(logits.float())
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

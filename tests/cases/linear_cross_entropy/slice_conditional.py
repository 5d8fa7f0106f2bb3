# verdict: match
# head: self.lm_head
# labels: shifted
# chain: vocab_slice(columns=self.config.unpadded_vocab_size) when size is not None and size < logits.shape[-1]
# guards: none

import torch
from torch import nn


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        size = self.config.unpadded_vocab_size
        if size is not None and size < logits.shape[-1]:
            logits = logits[..., :size]
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        return CausalLMOutputWithPast(loss=loss, logits=logits)

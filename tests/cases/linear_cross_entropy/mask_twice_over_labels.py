# verdict: reject FG303 at 21

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, attention_mask=None, kept=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            chosen = attention_mask != 0
            loss = CrossEntropyLoss()(logits[chosen], labels[chosen][kept])
        return CausalLMOutputWithPast(loss=loss, logits=logits)

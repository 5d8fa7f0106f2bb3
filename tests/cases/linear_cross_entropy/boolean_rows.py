# verdict: match
# head: self.lm_head
# labels: aligned
# chain: token_select(positions=bool_masked_pos)
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForMaskedImageModeling(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, bool_masked_pos=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = CrossEntropyLoss()(logits[bool_masked_pos], labels)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

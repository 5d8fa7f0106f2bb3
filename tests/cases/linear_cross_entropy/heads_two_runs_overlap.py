# verdict: match
# loss: CrossEntropyLoss
# head: self.lm_head
# labels: aligned
# chain: none
# loss: CrossEntropyLoss
# head: self.entity_head
# bias: yes
# labels: aligned
# chain: none
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.entity_head = nn.Linear(config.hidden_size, config.entity_vocab_size)

    def forward(self, input_ids=None, labels=None, entity_labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        entity_logits = self.entity_head(hidden_states)
        loss = None
        if labels is not None:
            loss = CrossEntropyLoss()(logits.view(-1, self.config.vocab_size), labels.view(-1))
        entity_loss = None
        if entity_labels is not None:
            entity_loss = CrossEntropyLoss()(entity_logits.view(-1, self.config.entity_vocab_size), entity_labels.view(-1))
        return BirdOutput(loss=loss, entity_loss=entity_loss, logits=logits, entity_logits=entity_logits)

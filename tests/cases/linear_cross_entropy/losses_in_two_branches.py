# verdict: match
# loss: CrossEntropyLoss
# head: self.lm_head
# bias: yes
# labels: aligned
# chain: none
# loss: CrossEntropyLoss
# head: self.lm_head
# bias: yes
# labels: aligned
# chain: none
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForPreTraining(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.pair_head = nn.Linear(config.hidden_size, 2)

    def forward(self, input_ids=None, labels=None, pair_labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None and pair_labels is not None:
            loss_fct = CrossEntropyLoss()
            lm_loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
            loss = lm_loss + loss_fct(self.pair_head(hidden_states[:, 0]), pair_labels)
        elif labels is not None:
            loss_fct = CrossEntropyLoss()
            loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
        return BirdOutput(loss=loss, logits=logits)

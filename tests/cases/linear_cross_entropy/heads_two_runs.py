# verdict: match
# loss: CrossEntropyLoss
# head: self.lm_head
# bias: yes
# labels: aligned
# chain: none
# loss: CrossEntropyLoss
# head: self.entities in self.entities.decoder
# before: self.entities.transform
# labels: aligned
# chain: bias(add=self.entities.bias)
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdEntityHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.decoder = nn.Linear(config.hidden_size, config.entity_vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.entity_vocab_size))

    def forward(self, hidden_states):
        hidden_states = self.transform(hidden_states)
        return self.decoder(hidden_states) + self.bias


class BirdForMaskedLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.entities = BirdEntityHead(config)

    def forward(self, input_ids=None, labels=None, entity_labels=None, **kwargs):
        outputs = self.model(input_ids)
        loss = None
        logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None:
            loss = CrossEntropyLoss()(logits.view(-1, self.config.vocab_size), labels.view(-1))
        entity_logits = None
        if outputs.entity_last_hidden_state is not None:
            entity_logits = self.entities(outputs.entity_last_hidden_state)
            if entity_labels is not None:
                entity_loss = CrossEntropyLoss()(entity_logits.view(-1, self.config.entity_vocab_size), entity_labels.view(-1))
                loss = entity_loss if loss is None else loss + entity_loss
        return BirdOutput(loss=loss, logits=logits, entity_logits=entity_logits)

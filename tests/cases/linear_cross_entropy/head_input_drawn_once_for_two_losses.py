# verdict: match
# loss: CrossEntropyLoss
# head: self.lm_head
# labels: aligned
# chain: none
# loss: CrossEntropyLoss
# head: self.lm_head
# labels: aligned
# chain: none
# keywords: label_smoothing=0.1
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.dropout = nn.Dropout(0.5)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(self.dropout(hidden_states))
        loss = None
        if labels is not None:
            a = CrossEntropyLoss()(logits.view(-1, self.vocab_size), labels.view(-1))
            b = CrossEntropyLoss(label_smoothing=0.1)(logits.view(-1, self.vocab_size), labels.view(-1))
            loss = a + b
        return CausalLMOutputWithPast(loss=loss, logits=logits)

# verdict: none
# aside: the class is a classifier and no vocabulary is in its text

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForSequenceClassification(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.classifier(hidden_states)
        loss = None
        if labels is not None:
            loss = CrossEntropyLoss()(logits.view(-1, self.num_labels), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

# verdict: delegated to self.pred_layer

import torch
from torch import nn


class BirdWithLMHeadModel(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.pred_layer = BirdPredLayer(config)

    def forward(self, input_ids=None, labels=None, **kwargs):
        outputs = self.pred_layer(self.model(input_ids)[0], labels)
        return outputs

# verdict: match
# head: self.proj
# bias: yes
# labels: aligned
# chain: none
# keywords: reduction='mean'
# guards: none

import torch
from torch import nn


class BirdPredLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.adaptive = config.adaptive
        self.vocab_size = config.vocab_size
        self.proj = nn.Linear(config.hidden_size, config.vocab_size)
        self.adaptive_proj = nn.AdaptiveLogSoftmaxWithLoss(config.hidden_size, config.vocab_size, [10])

    def forward(self, x, y=None):
        outputs = ()
        if self.adaptive is False:
            scores = self.proj(x)
            outputs = (scores,) + outputs
            if y is not None:
                loss = nn.functional.cross_entropy(scores.view(-1, self.vocab_size), y.view(-1), reduction="mean")
                outputs = (loss,) + outputs
        else:
            outputs = (self.adaptive_proj.log_prob(x),) + outputs
        return outputs

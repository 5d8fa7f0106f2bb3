# verdict: match
# head: self.lm_head
# labels: shifted
# chain: token_select(positions=:-1)
# keywords: reduction=reduction
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdLMHeadModel(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, return_logits=False, reduction="mean", **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        if return_logits:
            return logits[:, :-1, :].contiguous()
        loss = None
        if labels is not None:
            shifted_logits = logits[:, :-1, :].contiguous()
            labels = labels[:, 1:].contiguous().to(shifted_logits.device)
            loss_fct = CrossEntropyLoss(reduction=reduction)
            loss = loss_fct(shifted_logits.view(-1, self.config.vocab_size), labels.view(-1))
            if reduction == "none":
                loss = loss.view(logits.size(0), -1).sum(1)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

# verdict: match
# head: self.lm_head
# labels: aligned
# chain: bias(add=self.final_logits_bias.to(logits.device))
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdForConditionalGeneration(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("final_logits_bias", torch.zeros((1, config.vocab_size)))

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        logits = logits + self.final_logits_bias.to(logits.device)
        loss = None
        if labels is not None:
            labels = labels.to(logits.device)
            loss_fct = CrossEntropyLoss()
            loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

# verdict: match
# head: self.lm_head
# labels: preshifted
# chain: token_select(positions=self.model.image_tokens:) when kwargs.pop('shift_labels', None) is not None > token_select(positions=self.model.image_tokens:-1) when kwargs.pop('shift_labels', None) is None
# keywords: shift_labels=shift_labels, **kwargs
# guards: none

import torch
from torch import nn


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        shift_labels = kwargs.pop("shift_labels", None)
        if labels is not None:
            image_tokens = self.model.image_tokens
            if shift_labels is None:
                # the next token
                shifted_logits = logits[:, image_tokens:-1, :].contiguous()
                shift_labels = labels[:, 1:].contiguous()
            else:
                shifted_logits = logits[:, image_tokens:, :].contiguous()
            loss = self.loss_function(
                logits=shifted_logits,
                labels=None,
                vocab_size=self.config.vocab_size,
                shift_labels=shift_labels,
                **kwargs,
            )
        return CausalLMOutputWithPast(loss=loss, logits=logits)

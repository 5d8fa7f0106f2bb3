class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            shift_hidden_states = hidden_states[:, :-1, :].contiguous()
            labels = labels[:, 1:].contiguous()
            logits = None
            loss = causal_lm_loss(
                shift_hidden_states,
                self.lm_head,
                labels.view(-1),
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                shift_logits = logits[:, :-1, :].contiguous()
                labels = labels[:, 1:].contiguous()
                loss = self.loss_function(shift_logits.view(-1, self.vocab_size), labels.view(-1), self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

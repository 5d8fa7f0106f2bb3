class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            shift_labels = kwargs.pop("shift_labels", labels)
            logits = None
            loss = causal_lm_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                shift_labels=shift_labels,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                shift_labels = kwargs.pop("shift_labels", labels)
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, shift_labels=shift_labels, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

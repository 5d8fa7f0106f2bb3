class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if labels is not None and self.on and fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            self.step()
            logits = None
            loss = causal_lm_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(hidden_states)
            self.step()
            loss = None
            if labels is not None and self.on:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        if loss is None:
            loss = hidden_states.sum()
        return CausalLMOutputWithPast(loss=loss, logits=logits)

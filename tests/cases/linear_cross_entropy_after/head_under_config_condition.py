class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.a, labels, loss="ForCausalLMLoss", where=lambda: self.config.legacy):
            logits = None
            loss = causal_lm_loss(hidden_states, self.a, labels, vocab_size=self.vocab_size, **stock_keywords(kwargs))
        else:
            if self.config.legacy:
                logits = self.a(hidden_states)
            else:
                logits = self.b(hidden_states)
            loss = None
            if labels is not None:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

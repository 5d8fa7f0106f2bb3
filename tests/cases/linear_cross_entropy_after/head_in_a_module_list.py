class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.heads[0], labels, loss="ForCausalLMLoss"):
            logits = None
            loss = causal_lm_loss(
                hidden_states,
                self.heads[0],
                labels,
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.heads[0](hidden_states)
            loss = None
            if labels is not None:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

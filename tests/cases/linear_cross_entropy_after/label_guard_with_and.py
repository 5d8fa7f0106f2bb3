class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if labels is not None and self.training and fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            logits = None
            loss = causal_lm_loss(hidden_states, self.lm_head, labels, vocab_size=self.vocab_size)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None and self.training:
                loss = self.loss_function(logits, labels, self.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

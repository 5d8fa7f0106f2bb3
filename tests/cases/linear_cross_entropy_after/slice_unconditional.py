class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(
            self,
            self.lm_head,
            labels,
            loss="ForCausalLMLoss",
            where=lambda: self.config.unpadded_vocab_size is not None,
        ):
            logits = None
            loss = causal_lm_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.config.unpadded_vocab_size,
                valid_vocab=self.config.unpadded_vocab_size,
            )
        else:
            logits = self.lm_head(hidden_states)
            logits = logits[..., : self.config.unpadded_vocab_size]
            loss = None
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.unpadded_vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

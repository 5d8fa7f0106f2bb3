class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            logits = None
            loss = causal_lm_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=None,
                valid_vocab=self.config.unpadded_vocab_size if self.config.unpadded_vocab_size is not None and self.config.unpadded_vocab_size < self.lm_head.out_features else None,
            )
        else:
            logits = self.lm_head(hidden_states)
            size = self.config.unpadded_vocab_size
            if size is not None and size < logits.shape[-1]:
                logits = logits[..., :size]
            loss = None
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        return CausalLMOutputWithPast(loss=loss, logits=logits)

class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(
            self,
            self.lm_head,
            labels,
            where=lambda: self.config.kept is not None and self.config.vocab_size == self.config.kept,
        ):
            logits = None
            loss = cross_entropy_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.config.vocab_size,
                valid_vocab=self.config.kept,
            )
        else:
            logits = self.lm_head(hidden_states)
            logits = logits[..., : self.config.kept]
            loss = None
            if labels is not None:
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.reshape(-1, self.config.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

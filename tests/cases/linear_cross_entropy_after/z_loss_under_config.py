class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(
            self,
            self.lm_head,
            labels,
            loss="ForCausalLMLoss",
            where=lambda: not self.config.z_loss_coefficient > 0,
        ):
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
            loss = None
            if labels is not None:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        if self.config.z_loss_coefficient > 0:
            loss = loss + self.config.z_loss_coefficient * logits.logsumexp(-1).pow(2).mean()
        return CausalLMOutputWithPast(loss=loss, logits=logits)

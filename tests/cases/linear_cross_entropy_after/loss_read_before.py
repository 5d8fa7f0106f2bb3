class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, loss=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            loss = None
            base = loss
            logits = None
            loss = causal_lm_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
            if base is not None:
                loss = loss + base
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                base = loss
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
                if base is not None:
                    loss = loss + base
        return CausalLMOutputWithPast(loss=loss, logits=logits)

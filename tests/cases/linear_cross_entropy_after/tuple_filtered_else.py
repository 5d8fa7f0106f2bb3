class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, return_dict=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss", where=lambda: return_dict):
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
        if not return_dict:
            return tuple(v for v in (loss, logits, hidden_states) if v is not None)
        else:
            return CausalLMOutputWithPast(loss=loss, logits=logits)

class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            head_input = self.dropout(hidden_states)
            aux = self.dropout(hidden_states).mean()
            logits = None
            loss = causal_lm_loss(
                head_input,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(self.dropout(hidden_states))
            aux = self.dropout(hidden_states).mean()
            loss = None
            if labels is not None:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        loss = loss + aux
        return CausalLMOutputWithPast(loss=loss, logits=logits)

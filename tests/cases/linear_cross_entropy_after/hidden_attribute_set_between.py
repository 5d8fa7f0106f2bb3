class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        outputs = self.model(input_ids)
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            head_input = outputs.last_hidden_state
            outputs.last_hidden_state = outputs.last_hidden_state.tanh()
            logits = None
            loss = causal_lm_loss(
                head_input,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(outputs.last_hidden_state)
            outputs.last_hidden_state = outputs.last_hidden_state.tanh()
            loss = None
            if labels is not None:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

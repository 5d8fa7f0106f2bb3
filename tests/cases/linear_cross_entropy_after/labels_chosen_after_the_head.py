class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        outputs = self.model(input_ids, labels=labels)
        if fusible(
            self,
            self.lm_head,
            outputs.labels if outputs.labels is not None else labels,
            loss="ForCausalLMLoss",
        ):
            labels = outputs.labels if outputs.labels is not None else labels
            logits = None
            loss = causal_lm_loss(
                outputs.last_hidden_state,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(outputs.last_hidden_state)
            labels = outputs.labels if outputs.labels is not None else labels
            loss = None
            if labels is not None:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

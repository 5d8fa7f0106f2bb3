class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            logits = None
            loss = cross_entropy_loss(hidden_states, self.lm_head, labels, vocab_size=self.vocab_size, ignore_index=0)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                loss = CrossEntropyLoss(ignore_index=0)(logits.reshape(-1, self.vocab_size), labels.reshape(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

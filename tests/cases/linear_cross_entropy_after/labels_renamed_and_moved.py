class BirdForCausalLM:
    def forward(self, input_ids=None, lm_labels=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            lm_labels = labels.to(hidden_states.device)
            logits = None
            loss = cross_entropy_loss(hidden_states, self.lm_head, lm_labels, vocab_size=self.vocab_size)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                lm_labels = labels.to(logits.device)
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.view(-1, self.vocab_size), lm_labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

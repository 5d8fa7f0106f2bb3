class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            head_input = hidden_states
            head_input = head_input[:, -labels.size(1) :, :]
            logits = None
            loss = cross_entropy_loss(head_input, self.lm_head, labels, vocab_size=self.vocab_size)
        else:
            logits = self.lm_head(hidden_states)
            logits = logits[:, -labels.size(1) :, :]
            loss = None
            if labels is not None:
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.reshape(-1, self.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

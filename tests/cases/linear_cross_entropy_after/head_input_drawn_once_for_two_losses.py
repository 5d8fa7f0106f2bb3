class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            head_input = self.dropout(hidden_states)
            loss = None
            logits = None
            a = cross_entropy_loss(head_input, self.lm_head, labels, vocab_size=self.vocab_size)
            b = cross_entropy_loss(head_input, self.lm_head, labels, vocab_size=self.vocab_size, label_smoothing=0.1)
            loss = a + b
        else:
            logits = self.lm_head(self.dropout(hidden_states))
            loss = None
            if labels is not None:
                a = CrossEntropyLoss()(logits.view(-1, self.vocab_size), labels.view(-1))
                b = CrossEntropyLoss(label_smoothing=0.1)(logits.view(-1, self.vocab_size), labels.view(-1))
                loss = a + b
        return CausalLMOutputWithPast(loss=loss, logits=logits)

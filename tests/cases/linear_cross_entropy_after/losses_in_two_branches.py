class BirdForPreTraining:
    def forward(self, input_ids=None, labels=None, pair_labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            loss = None
            logits = None
            if labels is not None and pair_labels is not None:
                loss_fct = CrossEntropyLoss()
                lm_loss = cross_entropy_loss(hidden_states, self.lm_head, labels, vocab_size=self.config.vocab_size)
                loss = lm_loss + loss_fct(self.pair_head(hidden_states[:, 0]), pair_labels)
            elif labels is not None:
                loss = cross_entropy_loss(hidden_states, self.lm_head, labels, vocab_size=self.config.vocab_size)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None and pair_labels is not None:
                loss_fct = CrossEntropyLoss()
                lm_loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
                loss = lm_loss + loss_fct(self.pair_head(hidden_states[:, 0]), pair_labels)
            elif labels is not None:
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
        return BirdOutput(loss=loss, logits=logits)

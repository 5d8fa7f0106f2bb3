class BirdForConditionalGeneration:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            logits = None
            loss = cross_entropy_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.config.vocab_size,
                vocab_bias=self.final_logits_bias,
            )
        else:
            logits = self.lm_head(hidden_states)
            logits = logits + self.final_logits_bias.to(logits.device)
            loss = None
            if labels is not None:
                labels = labels.to(logits.device)
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

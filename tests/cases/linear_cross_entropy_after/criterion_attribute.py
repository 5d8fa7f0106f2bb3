class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, through={"loss_fct": nn.CrossEntropyLoss}):
            logits = None
            loss = cross_entropy_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                ignore_index=-100,
            )
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                loss = self.loss_fct(logits.view(-1, self.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

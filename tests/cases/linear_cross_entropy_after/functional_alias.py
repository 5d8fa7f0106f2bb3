class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            logits = None
            loss = cross_entropy_loss(hidden_states, self.lm_head, labels)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits)

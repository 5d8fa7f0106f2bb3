class BirdForMaskedImageModeling:
    def forward(self, input_ids=None, bool_masked_pos=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            logits = None
            loss = cross_entropy_loss(hidden_states[bool_masked_pos], self.lm_head, labels)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                loss = CrossEntropyLoss()(logits[bool_masked_pos], labels)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

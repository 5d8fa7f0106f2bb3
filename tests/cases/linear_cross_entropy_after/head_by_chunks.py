class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(
            self,
            "lm_head.decoder",
            labels,
            through={"lm_head": BirdChunkedHead},
            where=lambda: self.lm_head.chunk_size_lm_head == 0,
        ):
            logits = None
            loss = cross_entropy_loss(hidden_states, self.lm_head.decoder, labels, vocab_size=self.vocab_size)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.view(-1, self.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

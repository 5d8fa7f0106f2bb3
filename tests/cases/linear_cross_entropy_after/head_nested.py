class BirdForMaskedLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(
            self,
            "cls.predictions.decoder",
            labels,
            through={"cls": BirdOnlyMLMHead, "cls.predictions": BirdPredictionHead},
        ):
            head_input = self.cls.predictions.transform(hidden_states)
            logits = None
            loss = cross_entropy_loss(head_input, self.cls.predictions.decoder, labels, vocab_size=self.vocab_size)
        else:
            logits = self.cls(hidden_states)
            loss = None
            if labels is not None:
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.view(-1, self.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

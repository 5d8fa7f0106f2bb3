class BirdForMaskedLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, "cls.decoder", labels, through={"cls": BirdLMPredictionHead}):
            logits = None
            loss = cross_entropy_loss(
                hidden_states,
                Projection(torch.cat([self.cls.decoder.weight.t(), self.cls.dense.weight], dim=0).t()),
                labels,
                vocab_size=self.vocab_size,
                vocab_bias=self.cls.bias,
            )
        else:
            logits = self.cls(hidden_states)
            loss = None
            if labels is not None:
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(logits.view(-1, self.vocab_size), labels.view(-1))
        return CausalLMOutputWithPast(loss=loss, logits=logits)

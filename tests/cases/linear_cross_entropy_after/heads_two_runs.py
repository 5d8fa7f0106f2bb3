class BirdForMaskedLM:
    def forward(self, input_ids=None, labels=None, entity_labels=None, **kwargs):
        outputs = self.model(input_ids)
        loss = None
        if fusible(self, self.lm_head, labels):
            logits = None
            loss = cross_entropy_loss(
                outputs.last_hidden_state,
                self.lm_head,
                labels,
                vocab_size=self.config.vocab_size,
            )
        else:
            logits = self.lm_head(outputs.last_hidden_state)
            if labels is not None:
                loss = CrossEntropyLoss()(logits.view(-1, self.config.vocab_size), labels.view(-1))
        entity_logits = None
        if outputs.entity_last_hidden_state is not None:
            if fusible(self, "entities.decoder", entity_labels, through={"entities": BirdEntityHead}):
                head_input = self.entities.transform(outputs.entity_last_hidden_state)
                entity_logits = None
                entity_loss = cross_entropy_loss(
                    head_input,
                    self.entities.decoder,
                    entity_labels,
                    vocab_size=self.config.entity_vocab_size,
                    vocab_bias=self.entities.bias,
                )
                loss = entity_loss if loss is None else loss + entity_loss
            else:
                entity_logits = self.entities(outputs.entity_last_hidden_state)
                if entity_labels is not None:
                    entity_loss = CrossEntropyLoss()(entity_logits.view(-1, self.config.entity_vocab_size), entity_labels.view(-1))
                    loss = entity_loss if loss is None else loss + entity_loss
        return BirdOutput(loss=loss, logits=logits, entity_logits=entity_logits)

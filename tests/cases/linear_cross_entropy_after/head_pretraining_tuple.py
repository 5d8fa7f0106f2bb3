class BirdForPreTraining:
    def forward(self, input_ids=None, labels=None, next_sentence_label=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(
            self,
            "cls.predictions.decoder",
            labels,
            through={"cls": BirdPreTrainingHeads, "cls.predictions": BirdPredictionHead},
        ):
            head_input = self.cls.predictions.transform(hidden_states)
            seq_relationship_score = self.cls.seq_relationship(hidden_states[:, 0])
            loss = None
            loss_fct = CrossEntropyLoss()
            logits = None
            masked_lm_loss = cross_entropy_loss(
                head_input,
                self.cls.predictions.decoder,
                labels,
                vocab_size=self.config.vocab_size,
                vocab_bias=self.cls.predictions.bias,
            )
            next_sentence_loss = loss_fct(seq_relationship_score.view(-1, 2), next_sentence_label.view(-1))
            loss = masked_lm_loss + next_sentence_loss
        else:
            logits, seq_relationship_score = self.cls(hidden_states, hidden_states[:, 0])
            loss = None
            if labels is not None:
                loss_fct = CrossEntropyLoss()
                masked_lm_loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
                next_sentence_loss = loss_fct(seq_relationship_score.view(-1, 2), next_sentence_label.view(-1))
                loss = masked_lm_loss + next_sentence_loss
        return BirdForPreTrainingOutput(loss=loss, prediction_logits=logits, seq_relationship_logits=seq_relationship_score)

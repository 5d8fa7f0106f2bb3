class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            shift_labels = kwargs.pop("shift_labels", None)
            image_tokens = self.model.image_tokens
            if shift_labels is None:
                # the next token
                shifted_hidden_states = hidden_states[:, image_tokens:-1, :].contiguous()
                shift_labels = labels[:, 1:].contiguous()
            else:
                shifted_hidden_states = hidden_states[:, image_tokens:, :].contiguous()
            logits = None
            loss = causal_lm_loss(
                shifted_hidden_states,
                self.lm_head,
                None,
                vocab_size=self.config.vocab_size,
                shift_labels=shift_labels,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            shift_labels = kwargs.pop("shift_labels", None)
            if labels is not None:
                image_tokens = self.model.image_tokens
                if shift_labels is None:
                    # the next token
                    shifted_logits = logits[:, image_tokens:-1, :].contiguous()
                    shift_labels = labels[:, 1:].contiguous()
                else:
                    shifted_logits = logits[:, image_tokens:, :].contiguous()
                loss = self.loss_function(
                    logits=shifted_logits,
                    labels=None,
                    vocab_size=self.config.vocab_size,
                    shift_labels=shift_labels,
                    **kwargs,
                )
        return CausalLMOutputWithPast(loss=loss, logits=logits)

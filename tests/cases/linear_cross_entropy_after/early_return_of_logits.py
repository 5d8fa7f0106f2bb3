class BirdLMHeadModel:
    def forward(self, input_ids=None, labels=None, return_logits=False, reduction="mean", **kwargs):
        hidden_states = self.model(input_ids)[0]
        if not return_logits and fusible(self, self.lm_head, labels):
            shifted_hidden_states = hidden_states[:, :-1, :].contiguous()
            labels = labels[:, 1:].contiguous().to(shifted_hidden_states.device)
            logits = None
            loss = cross_entropy_loss(
                shifted_hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.config.vocab_size,
                reduction=reduction,
            )
            if reduction == "none":
                loss = loss.view(hidden_states.size(0), -1).sum(1)
        else:
            logits = self.lm_head(hidden_states)
            if return_logits:
                return logits[:, :-1, :].contiguous()
            loss = None
            if labels is not None:
                shifted_logits = logits[:, :-1, :].contiguous()
                labels = labels[:, 1:].contiguous().to(shifted_logits.device)
                loss_fct = CrossEntropyLoss(reduction=reduction)
                loss = loss_fct(shifted_logits.view(-1, self.config.vocab_size), labels.view(-1))
                if reduction == "none":
                    loss = loss.view(logits.size(0), -1).sum(1)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

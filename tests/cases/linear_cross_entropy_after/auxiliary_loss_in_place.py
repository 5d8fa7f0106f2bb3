class BirdForCausalLM:
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
            logits = None
            loss = causal_lm_loss(
                hidden_states,
                self.lm_head,
                labels,
                vocab_size=self.vocab_size,
                **stock_keywords(kwargs),
            )
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                loss = self.loss_function(logits, labels, self.vocab_size, **kwargs)
        aux_loss = None
        if self.config.output_router_logits:
            aux_loss = load_balancing_loss_func(hidden_states)
            if labels is not None:
                loss += self.config.router_aux_loss_coef * aux_loss.to(loss.device)
        return CausalLMOutputWithPast(loss=loss, logits=logits)
